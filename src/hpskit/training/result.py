"""What a finished run leaves: the best weights, what they have seen, a report, and a summary that is written last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpskit.files import publish, publish_json, read_json
from hpskit.models.training_record import HeldOut, write_record
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.log import log_lines
from hpskit.training.material import Material
from hpskit.training.report import report_page
from hpskit.training.run_folder import RunFolder

__all__ = ["Summary", "publish_report", "publish_result", "summary_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a finished run has made."""

    out: Path
    model: Path
    """The weights of the best checkpoint."""
    steps: int
    """Steps done; fewer than the recipe's if patience ran out."""
    best_step: int
    validation: Mapping[str, Any]
    """Of the best step; see `Validation.to_json`."""
    weight_hash: str


def publish_result(
    folder: RunFolder,
    checkpoints: Checkpoints,
    material: Material,
    *,
    steps: int,
    best: int,
    validation: Mapping[str, Any],
) -> None:
    """Publish the best weights with their training record and the report, and say that the run is complete.

    Args:
        folder: of the run.
        checkpoints: the best one among them.
        material: what was learned from.
        steps: done.
        best: which of them was the best.
        validation: its figures.

    Raises:
        CheckpointError: the best checkpoint is damaged.
        OutputError: something cannot be written.
    """
    digest = checkpoints.weight_hash(best)
    with publish(folder.model, sweep=True) as temporary:
        shutil.copyfile(checkpoints.model(best), temporary)
    held_out = HeldOut(
        rule="ties-half",
        **validation["accuracy"],
        source=f"{material.validation.name}, on which the checkpoint was chosen too",
    )
    write_record(
        folder.model,
        weight_hash=digest,
        data=", ".join(source.data.name for source in material.sources),
        prompts=material.prompts(),
        held_out=held_out,
        chosen_on=material.validation_prompts(),
    )
    publish_report(folder)
    summary = {"steps": steps, "best_step": best, "validation": validation, "weight_hash": digest}
    publish_json(folder.summary, summary)


def publish_report(folder: RunFolder) -> None:
    """Write the report of a run as far as it is.

    Raises:
        InputError: its settings or its log are damaged.
        OutputError: it cannot be written.
    """
    page = report_page(folder.name, read_json(folder.config), log_lines(folder.log))
    with publish(folder.report) as temporary:
        temporary.write_text(page, encoding="utf-8")


def summary_of(folder: RunFolder, found: Mapping[str, Any]) -> Summary:
    """What `RunFolder.finished` has found."""
    return Summary(
        out=folder.path,
        model=folder.model,
        steps=found["steps"],
        best_step=found["best_step"],
        validation=found["validation"],
        weight_hash=found["weight_hash"],
    )
