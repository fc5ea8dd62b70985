"""What HTML pages share: how figures are written, axes, charts, and the shell of a page."""
