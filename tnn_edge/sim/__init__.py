"""The simulated device: weather and work, the compiled core, the environment, the oracle."""
