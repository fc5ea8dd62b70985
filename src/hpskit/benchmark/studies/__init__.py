"""Studies of what lies behind scores: numbers of prompts, colours of images, metrics of distributions."""
