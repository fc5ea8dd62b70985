"""Measure and report how well scorers, and people, predict what people preferred, with intervals."""
