"""Compare text-to-image models by the images that they make for a suite of prompts."""

TEMPLATES = ("hpskit.benchmark", "hpskit.evaluation")
"""Where the templates of its pages are: its own, and the charts of the evaluation report."""
