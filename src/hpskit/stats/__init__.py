"""Arithmetic of preferences and benchmarks: NumPy and SciPy, no files, no networks.

Conventions, unless a docstring says otherwise:

- `scores` are (n,) for each group of n > 1 images, or a table (models, prompts) with NaN where one is missing. Higher
  is better.
- `ranks` are (n,) for each group, one order, or (judgements, n); `votes` are always (judgements, n). Lower is better,
  NaN was not ranked.
- `clusters` are labels of groups or prompts, equal where the text of the prompt is: those are drawn together and count
  as one. Without labels each is a prompt of its own.
- `categories` are names of prompts. Their shares of a mean are fixed, so what differs between categories is no error.
- `resamples` says how many, `level` is the nominal coverage from 0 to 1, and the same `seed` gives the same result.
- Results hold a figure as `value` and the ends of its interval as `low` and `high`.
- `InputError` is raised for arrays that do not fit together, for a value out of range, and where there is nothing to
  compare.

SciPy is imported inside functions: its import takes longer than many a command.
"""
