"""Results that are looked at together: of one suite, by the same scorers, and how their intervals are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.result import Result, read_result
from hpskit.errors import InputError

__all__ = ["Resampling", "check_one_scorer", "largest", "read_together", "repeats_note", "version_note"]

_SHOWN = 6
"""Prompts that are named where two models differ most, in each direction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampling:
    """How intervals are made."""

    resamples: int = 10_000
    """Bootstrap resamples of the prompts, and sign flips of the permutation test."""
    level: float = 0.95
    """Nominal coverage of the intervals, 0 to 1."""
    seed: int = 0
    """Same seed, same intervals."""

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise InputError(f"resamples: is {self.resamples}, expected 100 or more")


def read_together(paths: Sequence[Path], *, least: int = 1) -> list[Result]:
    """Results of one suite and of models with different names, in the order given.

    Raises:
        InputError: there are fewer than `least`, they are of different suites, or two have one name.
        RecordError: one of them is not what it should be.
    """
    if len(paths) < least:
        cure = "name more files made by `hpskit benchmark run`"
        raise InputError(
            f"results: there {'is' if len(paths) == 1 else 'are'} {len(paths)}, expected at least {least}; {cure}"
        )
    results = [read_result(path) for path in paths]
    first = results[0]
    names: dict[str, Path] = {}
    for result in results:
        if result.suite["sha256"] != first.suite["sha256"]:
            both = " and ".join(
                f"{one.path} of {one.suite['name']!r} ({one.suite['sha256'][:12]})" for one in (first, result)
            )
            raise InputError(f"{both}: the prompts differ, expected results of one suite; take each suite alone")
        if result.name in names:
            cure = "leave one out, or make it again with another --name"
            raise InputError(f"{names[result.name]} and {result.path}: both are of {result.name!r}; {cure}")
        names[result.name] = result.path
    return results


def check_one_scorer(label: str, results: Sequence[Result]) -> None:
    """See that a label stands for one scorer. Versions of hpskit may differ: its known answers hold for all of them.

    Raises:
        InputError: it stands for two, or a result does not have it.
    """
    first = results[0]
    for other in results:
        one, two = first.info(label), other.info(label)
        if one.lasting_identity != two.lasting_identity:
            cure = "scores of different identities cannot be compared; score both with one"
            raise InputError(
                f"{first.path} and {other.path}: scorer {label!r} is {one.identity!r} and {two.identity!r}; {cure}"
            )


def version_note(label: str, results: Sequence[Result]) -> str | None:
    """What a reader must know if several versions of hpskit have scored; None if one has."""
    packages = sorted({result.info(label).package for result in results})
    return f"Scores by {label} were made by {', '.join(packages)}." if len(packages) > 1 else None


def repeats_note(texts: NDArray[np.intp]) -> str | None:
    """What a reader must know if prompts repeat one another; None if none does.

    Args:
        texts: (prompts,) numbers of their texts; see `hpskit.benchmark.result.text_numbers`.
    """
    repeated = len(texts) - len(np.unique(texts))
    if not repeated:
        return None
    what = "those of one text are one prompt in intervals, tests and wins, and weigh in means as often as they stand"
    return f"{repeated:,} of {len(texts):,} prompts {'repeats' if repeated == 1 else 'repeat'} another; {what}."


def largest(differences: NDArray[np.float64]) -> list[int]:
    """Numbers of the six largest differences above 0, largest first; equal ones in the order of the prompts.

    Args:
        differences: (prompts,); NaN where there is nothing to compare.
    """
    order = np.argsort(np.where(np.isnan(differences), np.inf, -differences), kind="stable")
    return [int(n) for n in order[:_SHOWN] if differences[n] > 0]
