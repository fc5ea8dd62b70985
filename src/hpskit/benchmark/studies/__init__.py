"""What lies behind scores: how many prompts it takes, where the colours of images lie, metrics of distributions."""
