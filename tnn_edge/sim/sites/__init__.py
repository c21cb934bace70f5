"""A typical year of each site, as `python -m train.traces sites` packs it."""
