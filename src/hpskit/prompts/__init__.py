"""Prompts: from raw logs to a clean set; sources, cleaning, filters, duplicates, styles, selection, report."""
