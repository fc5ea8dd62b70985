"""The kinds of network: each module turns images and prompts into scores in its own way, by `models/network.py`."""
