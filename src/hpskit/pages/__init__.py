"""The kit of all HTML pages: figures as text, charts with their axes, and the shell of a page."""
