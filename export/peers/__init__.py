"""Every way of running one throttleable network, measured beside each other: ``python -m export.peers``.

A file for each way; `export.peers.ways` lists them.
"""
