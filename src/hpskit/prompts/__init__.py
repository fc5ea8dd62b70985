"""Prompts: suites of them, and the way from raw logs to a clean set: sources, rules, filters, duplicates, styles."""
