"""`hpskit evaluate` as a stage: a data set and scorers in; `result.json`, `report.html` and every score out.

OUT/scores/NAME-IDENTITY.jsonl   the score of every image, by each scorer; survives a kill, is continued
OUT/groups.jsonl                 scores, people's ranking and accuracy of every group, so that others can check
OUT/result.json                  every figure
OUT/report.html                  the same to be read: one file, opens offline
OUT/manifest.json                hashes of all of them, written last: it says that the rest is complete
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError, OutputError
from hpskit.evaluation.disagreement import thumbnails
from hpskit.evaluation.judging import Settings
from hpskit.evaluation.material import Material, OnError, read_material
from hpskit.evaluation.report import evaluation_page
from hpskit.evaluation.result import evaluate, group_rows
from hpskit.evaluation.scores import Scored, score_material
from hpskit.files import publish, publish_json, read_json, sha256_file
from hpskit.models.training_record import TrainingRecord
from hpskit.scoring.contract import Candidate

__all__ = ["Evaluation", "Summary", "run"]

_FORMAT = "hpskit evaluation 1"
_OWN_RULE = {"hpdv2-test": "hpdv2", "imagereward": "imagereward", "pickapic": "pickapic"}
"""Elsewhere ties count one half: `hpdv2` gives a tied score to the image that is listed first, which in many layouts of
pairs is always the preferred one."""
_PRODUCTS = ("result.json", "groups.jsonl", "report.html")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What to evaluate on, how, and where to put it."""

    data: str | os.PathLike[str]
    """File, folder or name of a data set; see `hpskit.dataset.reading.open_data`."""
    out: Path
    """Folder for the results; the scores in it are used again, so that scorers can be added later."""
    data_format: str = "auto"
    image_root: Path | None = None
    """Folder that relative image paths start from; None is what the data set's layout says."""
    on_error: OnError = "fail"
    """Whether an image that cannot be used stops everything, or removes its group for every scorer alike."""
    rule: str | None = None
    """Named rule of the headline; None is the rule of the data set's own paper, or `ties-half`."""
    tie_threshold: float | None = None
    """Of the rule `pickapic`: pairs whose probabilities differ by no more are tied; None is 0, equal scores."""
    persons: bool = False
    """Whether the same annotator name means the same person in all groups, so that persons can be resampled."""
    resamples: int = 10_000
    seed: int = 0
    command: str = ""
    """How to make this again; stands in the result and on the page."""

    def __post_init__(self) -> None:
        self.settings("hpdv2-test")

    def settings(self, data_format: str) -> Settings:
        """Checked, with the rule that suits a layout if none was asked for."""
        rule = self.rule or _OWN_RULE.get(data_format, "ties-half")
        return Settings(
            rule=rule,
            tie_threshold=self.tie_threshold,
            persons=self.persons,
            resamples=self.resamples,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a finished run has made."""

    out: Path
    result: dict[str, Any]
    resumed: int
    """Scores that an earlier run had made."""


def run(
    config: Evaluation,
    load: Callable[[], Sequence[Candidate]],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Summary:
    """Score what is not scored yet, judge, and publish.

    Args:
        config: what and where.
        load: makes the scorers; called only after all groups have been read, judgements and images found.
        progress: called with images done and images in all.

    Raises:
        InputError: the data cannot be used, two scorers have one label, or a setting is impossible.
        OutputError: the output cannot be written, or belongs to other data.
    """
    data = open_data(config.data, format=config.data_format, image_root=config.image_root)
    settings = config.settings(data.format)
    material = read_material(data, on_error=config.on_error)
    material.check_judged(settings.rules()[settings.rule])
    candidates = load()
    _check_labels(candidates)
    _check_probabilities(candidates, settings)
    header = _header(config, settings, material, candidates)
    if (finished := _finished(config.out, header)) is not None:
        return finished
    scored = score_material(
        material,
        [candidate.scorer for candidate in candidates],
        config.out / "scores",
        on_error=config.on_error,
        progress=progress,
    )
    result = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        **evaluate(scored.material, candidates, scored.scores, settings),
    }
    _publish(config.out, result, scored, candidates, header, settings)
    return Summary(out=config.out, result=result, resumed=scored.resumed)


def _check_labels(candidates: Sequence[Candidate]) -> None:
    labels = [candidate.label for candidate in candidates]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"scorers: {label!r} is named twice; name each scorer once")
    identities = [candidate.scorer.info.identity for candidate in candidates]
    for identity in identities:
        if identities.count(identity) > 1:
            raise InputError(f"scorers: two are {identity!r}; name each scorer once")


def _check_probabilities(candidates: Sequence[Candidate], settings: Settings) -> None:
    """A tie threshold is for those who give probabilities that say something."""
    if not settings.tie_threshold:
        return
    for candidate in candidates:
        if not candidate.scorer.log_odds_per_point:
            what = f"tie_threshold: is {settings.tie_threshold:g}, but {candidate.label!r} gives no probabilities"
            raise InputError(f"{what} that a threshold could be put to; leave out --tie-threshold or this scorer")


def _header(
    config: Evaluation, settings: Settings, material: Material, candidates: Sequence[Candidate]
) -> dict[str, Any]:
    """What must be equal for an earlier result to be this one."""
    return {
        "package": f"hpskit {__version__}",
        "data_sha256": material.sha256,
        "images_stamp": material.images_stamp,
        "skipped": [skipped.place for skipped in material.skipped],
        "scorers": {candidate.label: candidate.scorer.info.identity for candidate in candidates},
        "training": {c.label: _recorded(c.training) for c in candidates},
        "on_error": config.on_error,
        "settings": asdict(settings),
    }


def _recorded(record: TrainingRecord | None) -> list[str | int] | None:
    return [record.data, len(record.prompts), len(record.chosen_on)] if record else None


def _finished(out: Path, header: Mapping[str, Any]) -> Summary | None:
    """The result of an earlier complete run of the same thing."""
    path = out / "manifest.json"
    if not path.exists():
        return None
    manifest = read_json(path)
    found = manifest.get("run", {}) if isinstance(manifest, dict) else {}
    if found.get("data_sha256") != header["data_sha256"]:
        cure = "choose another --out"
        raise OutputError(f"{out}: holds the evaluation on other data ({found.get('data_sha256')!r}); {cure}")
    if found != header:
        return None
    for name, digest in manifest.get("files", {}).items():
        if not (out / name).is_file() or sha256_file(out / name) != digest:
            return None
    result = read_json(out / "result.json")
    return Summary(out=out, result=result, resumed=int(manifest["scores"]))


def _publish(
    out: Path,
    result: dict[str, Any],
    scored: Scored,
    candidates: Sequence[Candidate],
    header: Mapping[str, Any],
    settings: Settings,
) -> None:
    """Everything whole; the manifest last, and none while the rest changes."""
    (out / "manifest.json").unlink(missing_ok=True)
    wanted = {
        (case["place"], case[side])
        for cases in result["disagreements"].values()
        for case in cases
        for side in ("people_image", "scorer_image")
    }
    page = evaluation_page(result, thumbnails(scored.material.data, wanted))
    publish_json(out / "result.json", result)
    with publish(out / "groups.jsonl") as temporary, temporary.open("w", encoding="utf-8") as handle:
        for row in group_rows(scored.material, candidates, scored.scores, settings):
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    with publish(out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    names = [*_PRODUCTS, *(f"scores/{path.name}" for path in scored.logs)]
    manifest = {
        "format": f"{_FORMAT} manifest",
        "run": dict(header),
        "scores": sum(len(own) for scores in scored.scores for own in scores),
        "files": {name: sha256_file(out / name) for name in names},
    }
    publish_json(out / "manifest.json", manifest)
