"""Preference models: where their weights are, how they are loaded, and the networks."""
