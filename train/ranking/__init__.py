"""Policies ranked beside the optimum, at every place and with every battery, on years that nothing was tuned on."""
