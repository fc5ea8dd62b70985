"""Compare text-to-image models by the images that they make for a suite of prompts."""
