"""Vigilance over annotators: evidence, from rankings alone, that somebody does not look at the images.

Percentages of agreement do not tell a careless person from a hard task. Here every ranking is compared with the mean of
the others who ranked the same images, or with experts, and what an honest and a random ranking would have given is
weighed (Wald 1945). The evidence never falls below 0, so that no credit is saved up for a bad day (Page 1954).

The honest rankings are those of a Thurstone model: qualities of images are standard normal, and every person sees them
with normal noise whose variance is `NOISE`, times a log-normal factor of each task, as some prompts are harder. With
the ten rankings of 37 groups of HPD v2 that model gives the mean, the spread and the low tail of tau with the mean of
the other nine; `python benchmarks/vigilance.py` fits it and measures how soon and how wrongly people are paused.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.agreement import person_numbers
from hpskit.stats.blocks import Floats, Index, ballots, pair_indices, read_votes, require
from hpskit.stats.rules import signs

State: TypeAlias = Literal["clear", "watch", "pause", "unchecked"]

NOISE = 0.275
"""Median variance of a person's noise in units of the variance of quality, from `python benchmarks/vigilance.py`."""
SPREAD = 0.8
"""Standard deviation of the logarithm of that variance over tasks, from the same command."""
PAUSE = 9.5
"""Evidence, a logarithm of odds, at which somebody is paused."""

_WATCH = PAUSE / 2
_STEP = 4.0
"""Most that one task adds, so that one slip, such as an order upside down, pauses nobody."""
_SLIPS = 0.02
"""Share of an honest person's tasks that are as good as random."""
_REVERSED = 0.1
"""Share of what is not honest that turns the order upside down."""
_BAD_PEERS = 0.2
"""Share of the others that are thought to be random themselves: with few of them they explain a low tau."""
_MOST_PEERS = 10
"""More others than these change nothing that matters."""
_MOST_IMAGES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldScore:
    """Agreement of one ranking with experts, on the pairs where they agree."""

    agreed: float
    """Pairs ordered as the experts do, a tie counted one half."""
    pairs: int
    """Pairs that the experts agree on and the person ranked."""

    @property
    def value(self) -> float:
        """Share of the pairs, 0 to 1."""
        return self.agreed / self.pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerTaus:
    """Agreement of every judgement with the others of its group: arrays (judgements,), group after group."""

    group: Index
    """Number of the group, from 0."""
    person: tuple[Hashable, ...]
    """Who judged."""
    tau: Floats
    """Kendall's tau-b with the mean of the others, -1 to 1; NaN without others, or where one side has no order."""
    images: Index
    """Images that the person and somebody else ranked."""
    peers: Index
    """Others who ranked two or more of the person's images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vigilance:
    """Evidence that a person's rankings are as good as random."""

    evidence: float
    """Evidence after the last task: 0 and more, in natural logarithms of the odds."""
    path: Floats
    """(tasks,): evidence after each task."""
    state: State
    """`pause`: it passed `PAUSE`. `watch`: it is at half of that or more. `clear`: neither, and a random ranker would
    on average have been paused by now. `unchecked`: too little to compare with for any of these."""
    at: int | None
    """Index of the task at which it passed `PAUSE`; None if it never did."""


def gold_score(
    ranks: Sequence[int | float | None], experts: Sequence[Sequence[int | float | None]], *, share: float = 0.9
) -> GoldScore | None:
    """Compare a ranking of n images with those of experts; None where they share no pair to be compared on.

    A pair of images is compared if at least `share`, above 0.5 and at most 1, of the experts who ranked both prefer the
    same one; an expert's tie is a vote for neither. Close pairs, where experts differ, tell nothing about anybody. Sums
    of `agreed` and `pairs` over tasks give the share over all pairs. Ranks are lower for better; None was not ranked.

    Raises:
        InputError: the rankings differ in length, or `share` is out of range.
    """
    require(0.5 < share <= 1, "share", share, "above 0.5 and at most 1")
    own = np.array(ranks, dtype=np.float64)  # None becomes NaN
    others = [np.array(row, dtype=np.float64) for row in experts]
    for place, row in enumerate(others):
        if len(row) != len(own):
            raise InputError(f"experts: ranking {place}", f"has {len(row)} images", expected=f"{len(own)}")
    if not others or len(own) < 2:
        return None
    first, second = pair_indices(len(own))
    said = np.stack(others)
    ahead = said[:, second] - said[:, first]
    both = np.maximum((~np.isnan(ahead)).sum(axis=0), 1)
    clear = [(ahead * sign > 0).sum(axis=0) >= share * both - 1e-9 for sign in (1, -1)]
    expected = clear[0] * 1.0 - clear[1]
    mine = own[second] - own[first]
    compared = (expected != 0) & ~np.isnan(mine)
    if not compared.any():
        return None
    agreed = (1 + np.sign(mine[compared]) * expected[compared]).sum() / 2
    return GoldScore(agreed=float(agreed), pairs=int(compared.sum()))


def tau_with_reference(ranks: ArrayLike, references: Sequence[ArrayLike]) -> float:
    """Kendall's tau-b of a ranking (n,) with the mean of others (n,) of the same images; NaN is not ranked.

    The result is NaN without a reference, and where one side has no order: a ranking that ties everything says nothing.

    Raises:
        InputError: the rankings differ in length.
    """
    own, *others = (np.asarray(row, dtype=np.float64) for row in (ranks, *references))
    for place, row in enumerate(others):
        if row.shape != own.shape or own.ndim != 1:
            raise InputError(f"references: ranking {place}", f"has shape {row.shape}", expected=f"{own.shape}")
    return float(_compared(np.stack([own, *others])[None])[0][0, 0])


def taus_with_peers(votes: Sequence[ArrayLike], annotators: Sequence[Sequence[Hashable]]) -> PeerTaus:
    """Compare every judgement with the mean of the others of its group.

    `votes` are (judgements, images) of ranks for each group, lower is better, NaN was not ranked; `annotators` name
    those who judged. Two images are ordered by the mean difference of their ranks over the others who ranked both, so
    partial rankings need no common set. 3,200 groups of 9 images and 10 judgements take 0.1 seconds.

    Raises:
        InputError: votes or names do not fit together.
    """
    judged = read_votes(votes)
    person_numbers(annotators, judged)
    counts = judged.shapes[:, 0]
    starts = counts.cumsum() - counts
    total = int(counts.sum())
    tau, images, peers = np.full(total, np.nan), np.zeros(total, np.intp), np.zeros(total, np.intp)
    for part in ballots(judged, 4):
        rows = starts[part.groups][:, None] + np.arange(part.ahead.shape[1])
        tau[rows], images[rows], peers[rows] = _compared(judged.stacked(part.groups))
    return PeerTaus(
        group=np.repeat(np.arange(len(counts)), counts),
        person=tuple(name for names in annotators for name in names),
        tau=tau,
        images=images,
        peers=peers,
    )


def vigilance(taus: ArrayLike, images: ArrayLike, peers: ArrayLike) -> Vigilance:
    """Weigh a person's taus, (tasks,) in the order of time, as honest or random; NaN taus are passed over.

    `images` are how many were compared in each task, 2 to 20, and `peers` how many others, or experts, made the mean.
    The evidence of a task is the logarithm of how much likelier its tau is for a ranking at random, or upside down,
    than for an honest one of that size with that many peers: at most 4, so that a slip pauses nobody.

    Simulated with the real sample (`python benchmarks/vigilance.py`), nine others: random people are paused after 5
    tasks of nine images in the median and 8 at the 95 % quantile, 10 and 20 tasks of four; reversed ones after 3 and 4
    in the median; of 400 honest people at most one within 500 tasks. Of two images it takes some 30 tasks, and up to
    0.5 % of the honest are paused. With 30 % of the others random, random people are found as soon, but honest ones are
    paused more often: of nine images 1 % within 500 tasks with nine others, 2 % with four, 8 % with two, 6 % with one.
    So take the votes of paused people out of the means, and let somebody look at a pause.

    Raises:
        InputError: arrays differ in length, or hold what cannot be.
    """
    tau, sizes, others = (np.asarray(array, dtype=np.float64) for array in (taus, images, peers))
    if not tau.shape == sizes.shape == others.shape or tau.ndim != 1:
        found = f"have shapes {tau.shape}, {sizes.shape} and {others.shape}"
        raise InputError("taus, images, peers", found, expected="(tasks,) each")
    known = ~np.isnan(tau)
    for name, array, low, high in (
        ("taus", tau, -1 - 1e-9, 1 + 1e-9),
        ("images", sizes, 2, _MOST_IMAGES),
        ("peers", others, 1, np.inf),
    ):
        for place in np.flatnonzero(known & ~((array >= low) & (array <= high)))[:1]:
            expected = f"from {round(low)} to {round(high)}" if high < np.inf else f"{low} or more"
            raise InputError(f"{name}: task {place}", f"is {array[place]:g}", expected=expected)
    path, level, expected_of_random = np.zeros(len(tau)), 0.0, 0.0
    for place in range(len(tau)):
        if known[place]:
            table, mean = _evidence(int(sizes[place]), min(_MOST_PEERS, int(others[place])))
            level = max(0.0, level + float(np.interp((tau[place] + 1) / 2, np.linspace(0, 1, len(table)), table)))
            expected_of_random += mean
        path[place] = level
    passed = np.flatnonzero(path >= PAUSE)
    state: State = "clear" if expected_of_random >= PAUSE else "unchecked"
    if level >= _WATCH:
        state = "watch"
    if len(passed):
        state = "pause"
    return Vigilance(evidence=level, path=path, state=state, at=int(passed[0]) if len(passed) else None)


def _compared(block: Floats) -> tuple[Floats, Index, Index]:
    """(groups, judgements, images) -> tau, images and peers of each judgement, (groups, judgements) each."""
    first, second = pair_indices(block.shape[2])
    ahead = block[:, :, second] - block[:, :, first]
    ranked = ~np.isnan(ahead)
    ahead = np.where(ranked, ahead, 0)
    shared = ranked & (ranked.sum(axis=1, keepdims=True) > ranked)
    own = signs(ahead) * shared
    rest = signs(ahead.sum(axis=1, keepdims=True) - ahead) * shared
    scale = np.sqrt((own != 0).sum(axis=2) * (rest != 0).sum(axis=2))
    product = (own * rest).sum(axis=2, dtype=np.float64)
    tau = np.divide(product, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    there = (~np.isnan(block)).astype(np.float64)
    images = ((there > 0) & (there.sum(axis=1, keepdims=True) > 1)).sum(axis=2)
    peers = (there @ there.transpose(0, 2, 1) > 1).sum(axis=2) - (there.sum(axis=2) > 1)
    return tau, images, peers


def inversions(images: int) -> Floats:
    """Probability of 0, 1, … discordant pairs between an order of `images` and one at random: the exact null of tau.

    Source: Kendall 1938, A new measure of rank correlation.
    """
    counts = np.ones(1)
    for size in range(2, images + 1):
        counts = np.convolve(counts, np.full(size, 1 / size))
    return counts


def honest_taus(
    images: int, peers: int, *, draws: int = 20_000, bad_peers: float = _BAD_PEERS, seed: int = 0
) -> Floats:
    """Draw taus of honest people with the mean of `peers` others, each of them random with chance `bad_peers`.

    The result is (draws,), or shorter by those where the others tie everything.
    """
    rng = np.random.default_rng(seed)
    noise = np.sqrt(NOISE * np.exp(SPREAD * rng.normal(size=(draws, 1, 1))))
    seen = rng.normal(size=(draws, 1, images)) + noise * rng.normal(size=(draws, peers + 1, images))
    bad = rng.random((draws, peers)) < bad_peers
    seen[:, 1:][bad] = rng.normal(size=(int(bad.sum()), images))
    ranks = seen.argsort(axis=2).argsort(axis=2)
    first, second = pair_indices(images)
    others = ranks[:, 1:].sum(axis=1)
    own = np.sign(ranks[:, 0, second] - ranks[:, 0, first])
    rest = np.sign(others[:, second] - others[:, first])
    untied = (rest != 0).sum(axis=1)
    taus: Floats = (own * rest).sum(axis=1) / np.sqrt(np.maximum(untied, 1) * len(first))
    defined: Floats = taus[untied > 0]
    return defined


@cache
def _evidence(images: int, peers: int) -> tuple[Floats, float]:
    """Evidence of a tau, at equal steps from -1 to 1, and its mean over rankings at random."""
    random = inversions(images)[::-1]
    place = (honest_taus(images, peers) + 1) / 2 * (len(random) - 1)
    low = np.minimum(place.astype(np.intp), len(random) - 2)
    honest = np.zeros(len(random))
    for step, share in ((low, 1 - (place - low)), (low + 1, place - low)):  # ties leave taus between two steps
        honest += np.bincount(step, weights=share, minlength=len(random)) / len(place)
    good = (1 - _SLIPS) * honest + _SLIPS * random
    bad = (1 - _REVERSED) * random + _REVERSED * honest[::-1]
    table = np.minimum(np.log(bad / good), _STEP)
    table = np.maximum.accumulate(table[::-1])[::-1]  # less agreement is never less evidence
    return table, float(table @ random)
