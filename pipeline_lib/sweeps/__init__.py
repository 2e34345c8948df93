"""Sweeps: settings of `align` by training seeds, and what can be concluded from all their models together."""
