"""What the reserve shield prevents, and what it costs, under policies good, bad and random."""
