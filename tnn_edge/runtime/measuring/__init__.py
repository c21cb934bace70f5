"""What running costs on this machine: milliseconds, energy, memory."""
