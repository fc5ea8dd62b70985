"""Data sets of human preference: reading every layout of the field as groups, checking, converting."""
