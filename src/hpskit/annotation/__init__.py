"""Collect preferences: people rank images on a page of this server, and the rankings become a data set."""
