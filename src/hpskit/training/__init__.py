"""Training: a CLIP becomes a preference model."""
