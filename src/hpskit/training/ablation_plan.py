"""What an ablation would need, before anything is spent. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from hpskit.errors import OutputError
from hpskit.pages import counted, duration
from hpskit.training.ablate import Ablation, Point
from hpskit.training.estimate import Estimate, Size, estimate, size_of

__all__ = ["AblationPlan", "plan_ablation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationPlan:
    """All runs of a grid together."""

    runs: int
    done: int
    """Of them, those that are finished."""
    measured: tuple[tuple[str, Estimate], ...]
    """Names of the runs that stand for the others, and what each of them would need."""
    seconds: float | None
    """Of all that is left, one run after the other; None if something was not measured."""
    disk: int
    """Bytes that all runs together still need."""
    free_disk: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """About data and runs, each once."""
        return tuple(dict.fromkeys(text for _, found in self.measured for text in found.warnings))

    def to_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "runs": self.runs,
            "done": self.done,
            "seconds": self.seconds,
            "disk": self.disk,
            "free_disk": self.free_disk,
            "measured": {name: found.to_json() for name, found in self.measured},
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        for name, found in self.measured:
            yield f"{name}:"
            yield from (f"  {line}" for line in found.lines())
        left = self.runs - self.done
        time = "time not measured" if self.seconds is None else f"about {duration(self.seconds)} one after the other"
        yield f"in all: {counted(self.runs, 'run')}, {self.done:,} finished, {left:,} to train; {time}"
        yield f"disk for all: {self.disk / 1e9:.1f} GB, {self.free_disk / 1e9:,.0f} GB are free"


def plan_ablation(config: Ablation, progress: Callable[[str], None] = lambda _: None) -> AblationPlan:
    """Do all checks of all runs, and measure what they would need.

    Steps are measured once for each network, its first weights and the ratings that it learns from, with the point that
    trains most of it; steps of another size are taken to last as long for each pair.

    Args:
        config: as for `ablate`.
        progress: is told what is being done.

    Raises:
        InputError, ModelError, OutputError: what `ablate` would raise; or the disk has not enough room for all runs.
    """
    done = [point for point in config.grid.points if config.is_done(point)]
    todo = [point for point in config.grid.points if point not in done]
    sizes = {point.name: size_of(point.recipe) for point in todo}
    measured, seconds = list[tuple[str, Estimate]](), list[float | None]()
    for alike in [*([done[:1]] if done else []), *_alike(config, todo)]:  # a finished one may be of other data
        chosen = max(alike, key=lambda point: sizes[point.name].trained if point.name in sizes else 0)
        progress(f"checking {chosen.name}")
        found = estimate(config.run(chosen))
        measured.append((chosen.name, found))
        seconds += [found.seconds if point is chosen else _seconds(point, found) for point in alike]
    known = [value for value in seconds if value is not None]
    plan = AblationPlan(
        runs=len(config.grid.points),
        done=len(done),
        measured=tuple(measured),
        seconds=sum(known) if len(known) == len(seconds) else None,
        disk=_disk(config, todo, sizes),
        free_disk=measured[0][1].free_disk,
    )
    if plan.disk > plan.free_disk:
        found_disk = f"{plan.free_disk / 1e9:.1f} GB are free, {len(todo)} runs need {plan.disk / 1e9:.1f} GB"
        raise OutputError(f"{config.out}: {found_disk}; make room, choose another disk, or --set keep=1")
    return plan


def _alike(config: Ablation, points: list[Point]) -> list[list[Point]]:
    """Points of which one stands for the others; a run that has begun stands for itself."""
    groups: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        recipe, begun = point.recipe, config.run(point).out.exists()
        key = (recipe.architecture, recipe.weights, recipe.rated, point.name if begun else None)
        groups.setdefault(key, []).append(point)
    return list(groups.values())


def _seconds(point: Point, found: Estimate) -> float | None:
    """Of a run, by the steps of another one."""
    if found.measured is None:
        return None
    pace = found.measured.seconds * point.recipe.batch / found.recipe.batch
    return replace(found, recipe=point.recipe, measured=replace(found.measured, seconds=pace), standing=None).seconds


def _disk(config: Ablation, points: list[Point], sizes: dict[str, Size]) -> int:
    """What finished runs leave, and the checkpoints that are being written, without what is there already."""
    left = [sizes[point.name].disk - sizes[point.name].checkpoint for point in points]
    writing = sorted((sizes[point.name].checkpoint for point in points), reverse=True)[: config.jobs]
    there = [path for point in points for path in config.run(point).out.rglob("*") if path.is_file()]
    return max(0, sum(left) + sum(writing) - sum(path.stat().st_size for path in there))
