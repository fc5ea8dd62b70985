"""Scores of images for prompts: the contract, the scorer, and files in, files out."""
