"""`hpskit reward audit`: of a run that is over, how its rewards were made and when they stopped to mean better images.

One checkpoint is used with four ways to make an image square and on five scales, so rewards of the same name differ.
All of them are computed for a sample of the run's images; the one that the logged rewards are a line of is the one.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpskit.errors import InputError, RecordError, listed, shown
from hpskit.models.network import Network
from hpskit.pixels import Encoded
from hpskit.records import ScorerInfo
from hpskit.reward.sighting import Sighting
from hpskit.reward.watch import Decoded, Watch
from hpskit.rows import guess, named_columns
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import NetworkScorer
from hpskit.scoring.tables import open_table
from hpskit.stage import Progress
from hpskit.stats.blocks import Floats

PREPROCESSINGS: Mapping[str, Mapping[str, Any]] = {
    "letterbox": {"resize": "letterbox", "antialias": True},
    "letterbox, not antialiased": {"resize": "letterbox", "antialias": False, "pillow": False},
    "centre crop": {"resize": "crop", "antialias": True},
    "squashed to a square": {"resize": "squash", "antialias": True},
}
"""The official code with torchvision from 0.17 on, and before; CLIP's own transform; VideoX-Fun."""
SCALES = {
    "points, as of hpskit and the benchmark": (1.0, 0.0),
    "cosines, as of DanceGRPO and VideoX-Fun": (0.01, 0.0),
    "points / 26, as of flow_grpo": (1 / 26, 0.0),
    "(points - 18) / 8, as of MixGRPO": (1 / 8, -18 / 8),
    "points / 20, as of SRPO": (1 / 20, 0.0),
}
"""Factor and offset."""
_ROLES = {
    "reward": ("reward", "rewards", "score", "avg", "hpsv2", "hps", "pickscore"),
    "step": ("step", "global_step", "iteration", "iter", "epoch"),
}
_SAMPLE, _FEWEST = 256, 8
"""Rewards that are compared, and how many different ones are needed."""
_WITHIN = 32
"""Images of a step that are scored, where a log has only means."""
_SURE, _LIKELY = 0.05, 0.3
"""Share of the rewards' deviation that a match may leave open: images that were saved as JPEG leave some."""


class Match(NamedTuple):
    """One way to make the rewards, and how well it fits."""

    preprocessing: str
    scale: str
    """Name in `SCALES`, or the line in words."""
    open: float
    """Share of the deviation of the rewards that it does not explain, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Result of an audit."""

    images: int
    by_step: bool
    """Whether the log has only the mean reward of each step."""
    matches: Sequence[Match]
    """All that were tried, the best first."""
    lines: Sequence[Sighting]
    """The watch on every step."""

    @property
    def verdict(self) -> str:
        """Say how the rewards were made."""
        best, *others = self.matches
        if best.open > _LIKELY:
            what = f"the nearest, {best.preprocessing}, leaves {best.open:.0%} of their deviation open"
            if self.by_step and self.images > _WITHIN * len(self.lines):
                what += f", of which some is due to scoring at most {_WITHIN} images of a step"
            return f"no known preprocessing gives these rewards ({what}): another model, or other images"
        alike = [other.preprocessing for other in others if other.open < max(2 * best.open, 0.01)]
        also = f", or {listed(alike)}, which this sample does not tell apart" if alike else ""
        word = "probably " if best.open > _SURE else ""
        return f"the rewards are {word}{best.scale}; {best.preprocessing}{also} ({best.open:.1%} open)"


class _Row(NamedTuple):
    image: Path | Encoded
    prompt: str
    reward: float
    step: int
    name: str


def run(
    log: Path,
    load: Callable[[], tuple[Network, ScorerInfo]],
    *,
    columns: str = "",
    held_out: Scorer | None = None,
    progress: Progress = lambda *_: None,
) -> Finding:
    """Read the log, find how its rewards were made, and let the watch look at every step.

    Args:
        log: a table of images, prompts, rewards and steps, or a folder with one such table. Without a column of steps
            they are read from the folders of the images.
        load: gives the network that the run says it used; called after the log has been read.
        columns: names of the columns, as `image=NAME,prompt=NAME,reward=NAME,step=NAME`; usual names are found.
        held_out: a scorer that the run has not seen.
        progress: see `hpskit.stage.Progress`.

    Raises:
        InputError: the log lacks what is needed, or has too little of it.
    """
    steps: dict[int, list[_Row]] = {}
    for row in _rows(log, columns):
        steps.setdefault(row.step, []).append(row)
    count = sum(map(len, steps.values()))
    by_step = count > len(steps) and all(len({row.reward for row in rows}) == 1 for rows in steps.values())
    units = [*steps.values()] if by_step else [[row] for rows in steps.values() for row in rows]
    if by_step:  # enough steps to tell the ways apart, however many images each has
        units = [rows[:: math.ceil(len(rows) / _WITHIN)] for rows in units]
        units = units[:: max(1, min(sum(map(len, units)) // _SAMPLE, len(units) // (2 * _FEWEST)))]
    else:
        units = units[:: max(1, count // _SAMPLE)]
    rewards = np.array([unit[0].reward for unit in units])
    if (different := len(set(rewards.tolist()))) < _FEWEST:
        raise InputError(log, f"has {different} different rewards", expected=f"at least {_FEWEST}, to compare them")
    found = identify(rewards, dict(_scores(*load(), units, progress)))
    watch = Watch(held_out=held_out, one_in=max(1, count // 4096), reference=min(256, max(16, count // 4)))
    lines = []
    for number, (step, rows) in enumerate(sorted(steps.items()), 1):
        images, prompts, own, _, names = zip(*rows, strict=True)
        lines.append(watch.see(Decoded(images), prompts, own, step=step, names=names))
        progress("watching", number, len(steps))
    return Finding(images=count, by_step=by_step, matches=found, lines=lines)


def identify(rewards: Floats, scores: Mapping[str, Floats]) -> list[Match]:
    """Find which scores rewards are a line of: the best first.

    Args:
        rewards: (N,), not all equal.
        scores: way to make them -> (N,) in points.
    """

    def left(own: Floats, factor: float, offset: float) -> float:
        return float(np.sqrt(np.square(rewards - factor * own - offset).mean()) / rewards.std())

    matches = []
    for name, own in scores.items():
        factor, offset = (float(v) for v in np.polyfit(own, rewards, 1)) if own.std() > 0 else (0.0, rewards.mean())
        best = left(own, factor, offset)
        line = f"{factor:.4g} x points {'-' if offset < 0 else '+'} {abs(offset):.4g}"
        known = {scale: left(own, *values) for scale, values in SCALES.items()}
        scale = min(known, key=known.__getitem__)
        matches.append(Match(name, scale if known[scale] <= max(2 * best, 0.03) else line, best))
    return sorted(matches, key=lambda match: match.open)


def _scores(
    network: Network, info: ScorerInfo, units: Sequence[Sequence[_Row]], progress: Progress
) -> Iterator[tuple[str, Floats]]:
    """Yield the mean score of each unit, by each preprocessing."""
    own = network.preprocessing
    # A network that takes inputs of any proportions has no square that others would have made differently.
    known = {} if own.resize == "multiple" else PREPROCESSINGS
    ways = {name: replace(own, **change) for name, change in known.items()}
    ways |= {} if own in ways.values() else {"its own preprocessing": own}
    rows = [row for unit in units for row in unit]
    sizes = np.array([len(unit) for unit in units])
    for number, (name, preprocessing) in enumerate(ways.items(), 1):
        other = copy.copy(network)
        other.preprocessing = preprocessing
        scorer = NetworkScorer(other, info.model_copy(update={"preprocessing": preprocessing.name}))
        values = scorer.score([row.image for row in rows], [row.prompt for row in rows]).double().numpy()
        yield name, np.add.reduceat(values, np.cumsum(sizes) - sizes) / sizes
        progress("scoring", number, len(ways))


def _rows(path: Path, columns: str) -> Iterator[_Row]:
    if path.is_dir():
        tables = sorted(one for one in path.iterdir() if one.suffix in (".jsonl", ".csv", ".tsv", ".parquet"))
        if len(tables) != 1:
            found = f"has {len(tables)} tables ({listed([one.name for one in tables]) or 'none'})"
            raise InputError(path, found, expected="one .jsonl, .csv, .tsv or .parquet", cure="name the file")
        (path,) = tables
    ours = [part for part in columns.split(",") if part.partition("=")[0].strip() in _ROLES]
    table = open_table(path, ",".join(part for part in columns.split(",") if part not in ours))
    said = named_columns(",".join(ours), _ROLES, path, table.columns)
    for role, names in _ROLES.items():
        usual = [name for name in table.columns if name.lower() in names]
        if role not in said and (usual or role == "reward"):
            said[role] = role if role in usual else guess(path, role, usual, table.columns)
    for _, place, value in table.rows():
        image = table.picture(value, path.parent, None)
        step = value.get(said["step"]) if "step" in said else _step(value.get(table.image))
        try:
            row = _Row(image, str(value[table.prompt]), float(value[said["reward"]]), int(step), str(image))  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            expected = "a reward and the number of a step"
            raise RecordError(place, f"cannot be used ({error!r})", expected=expected, cure="see --columns") from error
        if not isinstance(image, Path | Encoded) or not math.isfinite(row.reward):
            found = f"has the reward {row.reward} and the image {shown(value.get(table.image), 60)}"
            raise RecordError(place, found, expected="a finite number and a file on this machine")
        yield row if isinstance(image, Path) else row._replace(name=place)


def _step(image: object) -> int | None:
    """Return the number in the nearest folder of an image that has one, as in `images/step_120/3.png`."""
    folders = reversed(Path(image).parts[:-1]) if isinstance(image, str) else ()
    return next((int(numbers[-1]) for folder in folders if (numbers := re.findall(r"\d+", folder))), None)
