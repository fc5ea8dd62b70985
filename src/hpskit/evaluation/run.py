"""`hpskit evaluate` as a stage: a data set and scorers in; `result.json`, `report.html` and every score out.

OUT/scores.ledger   the score of every image by each scorer; survives a kill, is continued and used again
OUT/groups.jsonl    scores, people's ranking and accuracy of every group, so that others can check
OUT/result.json     every figure
OUT/report.html     the same to be read: one file, opens offline
OUT/manifest.json   hashes of all of them, written last: it says that the rest is complete
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hpskit import __version__
from hpskit.dataset.reading import open_data
from hpskit.errors import ImageError, InputError
from hpskit.evaluation import judging
from hpskit.evaluation.breakdown import breakdowns, disagreements, pair_up, thumbnails
from hpskit.evaluation.groups import OWN_RULE, EvaluationSet, OnError, check_same_data, read_groups
from hpskit.evaluation.judging import Intervals, Settings
from hpskit.evaluation.report import evaluation_page, evaluation_paper
from hpskit.files import json_line, json_text, read_json
from hpskit.models.training_record import TrainingRecord
from hpskit.pages.paper import file_names, formats_of, paper_files
from hpskit.pixels import Encoded
from hpskit.scoring.book import Book, Request, stopped
from hpskit.scoring.contract import Candidate, Scorer, check_candidates
from hpskit.stage import Ledger, Manifest, Progress, check_free, heading, publish, read_manifest
from hpskit.stats.accuracy import pair_accuracy
from hpskit.stats.blocks import Floats
from hpskit.stats.correlation import kendall_tau_b, spearman

_FORMAT = "hpskit evaluation 1"
LEDGER = {"format": "hpskit evaluation scores 1"}
"""Head of the ledger OUT/scores.ledger."""
_MANIFEST = "hpskit evaluation 1 manifest"
_PRODUCTS = ("result.json", "groups.jsonl", "report.html")

Scores: TypeAlias = Sequence[Floats]
"""(images,) for each group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Settings of an evaluation."""

    data: str | os.PathLike[str]
    """File, folder or name of a data set; see `hpskit.dataset.reading.open_data`."""
    out: Path
    """Folder for the results; the scores in it are used again, so that scorers can be added later."""
    data_format: str = "auto"
    image_root: Path | None = None
    """Folder that relative image paths start from; None is what the data set's layout says."""
    allow_outside: bool = False
    """Whether the page may show images that lie outside of the data set's own folder."""
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
    paper: tuple[str, ...] = ()
    """Formats for papers; see `hpskit.pages.paper`."""
    command: str = ""
    """How to make this again; stands in the result and on the page."""

    def __post_init__(self) -> None:
        self.settings("hpdv2-test")

    def settings(self, data_format: str) -> Settings:
        """Check the settings, with the rule that suits a layout if none was asked for."""
        return Settings(
            rule=self.rule or OWN_RULE.get(data_format, "ties-half"),
            tie_threshold=self.tie_threshold,
            persons=self.persons,
            resamples=self.resamples,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A finished run."""

    result: dict[str, Any]
    resumed: int
    """Scores that an earlier run had made."""


def run(config: Evaluation, load: Callable[[], Sequence[Candidate]], progress: Progress = lambda *_: None) -> Summary:
    """Score what is not scored yet, judge, and publish.

    `load` makes the scorers; it is called only after all groups have been read, judgements and images found.

    Raises:
        InputError: the data cannot be used, two scorers have one label, or a setting is impossible.
        OutputError: the output cannot be written, or belongs to other data.
    """
    data = open_data(
        config.data, format=config.data_format, image_root=config.image_root, allow_outside=config.allow_outside
    )
    settings = config.settings(data.format)
    formats = formats_of(config.out, "report", config.paper, record="manifest.json")
    names = {*_PRODUCTS, *file_names("report", formats)}
    check_free(config.out, "manifest.json", names, _MANIFEST)
    before = read_manifest(config.out, _MANIFEST, _PRODUCTS, model=Manifest)
    groups = read_groups(data, on_error=config.on_error)
    groups.check_judged(settings.rules()[settings.rule])
    check_same_data(config.out, before, groups.sha256)
    candidates = load()
    check_candidates(candidates)
    _check_probabilities(candidates, settings)
    # held until all is published, so that two runs in one folder never mix their files
    with Ledger(config.out / "scores.ledger", LEDGER) as ledger:
        scorers = [candidate.scorer for candidate in candidates]
        scored = score_groups(groups, scorers, Book(ledger), config.on_error, progress)
        groups, scores = scored.groups, scored.scores
        header = json.loads(json.dumps(_header(config, settings, scored, candidates)))
        if before and before.run == header and before.files.keys() == names and before.holds(config.out):
            return Summary(result=read_json(config.out / "result.json"), resumed=scored.known)
        result = {
            **heading(_FORMAT, config.command),
            **evaluate(groups, candidates, scores, settings),
        }
        wanted = {
            (case["place"], case[side]): scored.digests[case["place"], case[side]]
            for cases in result["disagreements"].values()
            for case in cases
            for side in ("people_image", "scorer_image")
        }
        page = evaluation_page(result, thumbnails(groups.data, wanted))
        products: dict[str, bytes | Iterator[bytes]] = {
            "result.json": json_text(result).encode(),
            "groups.jsonl": map(json_line, group_rows(groups, candidates, scores, settings)),
            "report.html": page.encode(),
        }
        products |= paper_files(evaluation_paper(result), "report", formats)
        publish(config.out, "manifest.json", {"format": _MANIFEST, "run": header}, products)
        return Summary(result=result, resumed=scored.known)


def _check_probabilities(candidates: Sequence[Candidate], settings: Settings) -> None:
    """See that a tie threshold has probabilities that it can be put to."""
    for candidate in candidates if settings.tie_threshold else ():
        if not candidate.scorer.log_odds_per_point:
            found = f"is {settings.tie_threshold:g}, but {candidate.label!r} gives no probabilities"
            raise InputError("tie_threshold", found, cure="leave out --tie-threshold or this scorer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Groups with the scores of their images."""

    groups: EvaluationSet
    """Those of which every image could be scored."""
    scores: Sequence[Scores]
    """Of each scorer, for each of these groups."""
    digests: Mapping[tuple[str, str], str]
    """(place of the group, image) -> SHA-256 of the bytes that were scored."""
    known: int
    """Scores that the book had."""


def score_groups(
    groups: EvaluationSet, scorers: Sequence[Scorer], book: Book, on_error: OnError, progress: Progress
) -> Scored:
    """Fill the book with the score of every image.

    Raises:
        RecordError: an image cannot be decoded, in mode `fail`; what was scored before is kept.
    """
    numbers: dict[tuple[str, str], int] = {}  # (place, image) -> number of its request
    requests: dict[tuple[str, str], int] = {}  # a file of several groups of one prompt is read once
    places: list[str] = []
    total = len({(name, group.prompt) for group in groups.groups for name in group.images})
    broken: dict[int, ImageError] = {}

    def asked() -> Iterator[Request]:
        for group, name, image in groups.images():
            key = (group.place if isinstance(image, Encoded) else group.prompt, name)
            if key not in requests:
                requests[key] = len(places)
                places.append(group.place)
                yield image, group.prompt
            numbers[group.place, name] = requests[key]

    def cannot(number: int, error: ImageError) -> None:
        broken[number] = error
        if on_error == "fail":
            raise stopped(error, places[number]) from error

    filled = book.fill(
        scorers,
        asked(),
        broken=cannot,
        progress=lambda done: progress("scoring", done, total),
        continuing=lambda known: progress("continuing", known, total),
    )
    digests = {image: filled.digests[number] for image, number in numbers.items()}
    reasons = {place: str(broken[number]) for (place, _), number in numbers.items() if number in broken}
    kept = groups.without(reasons) if reasons else groups

    def scores_of(identity: str) -> Scores:
        return [
            np.array([book.score(identity, digests[group.place, name], group.prompt) for name in group.images])
            for group in kept.groups
        ]

    scores = [scores_of(scorer.info.identity) for scorer in scorers]
    return Scored(groups=kept, scores=scores, digests=digests, known=filled.known)


def _header(config: Evaluation, settings: Settings, scored: Scored, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Collect what must be equal for an earlier result to be this one."""
    return {
        "package": f"hpskit {__version__}",
        "data_sha256": scored.groups.sha256,
        "images_sha256": hashlib.sha256("\n".join(scored.digests.values()).encode()).hexdigest(),
        "skipped": list(scored.groups.skipped),
        "scorers": {candidate.label: candidate.scorer.info.identity for candidate in candidates},
        "training": {
            c.label: [c.training.data, len(c.training.prompts), len(c.training.chosen_on)] if c.training else None
            for c in candidates
        },
        "on_error": config.on_error,
        "allow_outside": config.allow_outside,
        "settings": asdict(settings),
    }


# What the scores say: pure, without files


def evaluate(
    data: EvaluationSet, candidates: Sequence[Candidate], scores: Sequence[Scores], settings: Settings
) -> dict[str, Any]:
    """Judge scores on the groups of a data set, ready for JSON; see docs/evaluation.md.

    Raises:
        InputError: people have compared nothing that the rule looks at.
    """
    rules = settings.rules()
    data.check_judged(rules[settings.rule])
    groups, intervals = data.groups, Intervals(clusters=data.clusters(), settings=settings)
    verdicts = [group.verdicts() for group in groups]
    pairs = pair_up(groups)
    test_set = judging.test_set_of(data.data.format, settings.rule)
    odds = {candidate.label: _log_odds(candidate, own) for candidate, own in zip(candidates, scores, strict=True)}
    headline = {label: pair_accuracy(own, verdicts, rules[settings.rule]) for label, own in odds.items()}
    scorers, conflicts = [], {}
    for candidate, own in zip(candidates, scores, strict=True):
        label, info, log_odds = candidate.label, candidate.scorer.info, odds[candidate.label]
        probabilities = _probabilities(candidate, pairs.differences(own))
        # a threshold can be chosen for probabilities, and only where none was asked for
        free = settings.tie_threshold is None and candidate.scorer.log_odds_per_point
        scorers.append(
            {
                "label": label,
                "info": info.to_json(),
                "reads_prompt": candidate.scorer.reads_prompt,
                "training": _training(candidate.training, [group.prompt for group in groups]),
                "published": judging.published_for(info.name, test_set),
                "accuracy": judging.accuracy_of(log_odds, verdicts, intervals),
                "kendall_tau_b": judging.correlation_of(kendall_tau_b(log_odds, verdicts), intervals),
                "spearman": judging.correlation_of(spearman(log_odds, verdicts), intervals),
                "two_way": judging.two_way_of_scores(own, groups, intervals),
                "pickapic": {
                    "tie_threshold": settings.tie_threshold or 0.0,
                    "cross_fitted": judging.cross_fitted_of(log_odds, verdicts, intervals) if free else None,
                },
                "calibration": None if probabilities is None else judging.calibration_of(pairs, probabilities),
            }
        )
        conflicts[label] = disagreements(pairs, groups, own)
        for case in conflicts[label]:
            chance = _probabilities(candidate, np.array([case["scorer_score"] - case["people_score"]]))
            case["probability"] = None if chance is None else float(chance[0])
    people = judging.ceilings(groups, intervals, test_set)
    published = [
        {"name": row.name, "value": value, "people": row.people, "note": row.note}
        for row in judging.PUBLISHED  # figures of people only where none were measured
        if test_set and (value := row.on(test_set)) is not None and not (people and row.people)
    ]
    return {
        "data": data.facts(),
        "pairs": len(pairs),
        "settings": {**asdict(settings), "resampled": "prompts"},
        "rules": {name: rule.definition for name, rule in rules.items()},
        "scorers": scorers,
        "people": people,
        "published": {"test_set": test_set, "rows": published},
        "differences": intervals.differences(headline),
        "breakdowns": breakdowns(pairs, groups, odds, intervals),
        "disagreements": conflicts,
    }


def group_rows(
    data: EvaluationSet, candidates: Sequence[Candidate], scores: Sequence[Scores], settings: Settings
) -> Iterator[dict[str, Any]]:
    """Yield a row for each group: what was compared, and the accuracy of each scorer under the rule of the settings."""
    verdicts = [group.verdicts() for group in data.groups]
    rule = settings.rules()[settings.rule]
    rows = list(zip(candidates, scores, strict=True))
    accuracies = {c.label: pair_accuracy(_log_odds(c, own), verdicts, rule) for c, own in rows}
    for number, group in enumerate(data.groups):
        yield {
            "place": group.place,
            "prompt": group.prompt,
            "images": group.images,
            "people": [[None if np.isnan(rank) else float(rank) for rank in row] for row in verdicts[number]],
            "scores": {candidate.label: own[number].tolist() for candidate, own in rows},
            "accuracy": {
                label: float(found.correct[number] / found.weight[number]) if found.weight[number] else None
                for label, found in accuracies.items()
            },
        }


def _log_odds(candidate: Candidate, scores: Scores) -> Scores:
    """Scores in log-odds if they have such a scale: the same order, and what the tie threshold needs."""
    factor = candidate.scorer.log_odds_per_point
    return [factor * own for own in scores] if factor else scores


def _training(record: TrainingRecord | None, prompts: Sequence[str]) -> dict[str, Any]:
    """Count the groups with a prompt that the scorer was trained on, and with one that it was chosen on."""
    return {
        "known": record is not None,
        "data": record.data if record else None,
        "seen": record.overlap(prompts) if record else 0,
        "chosen_on": record.choice_overlap(prompts) if record else 0,
        "groups": len(prompts),
        "held_out": record.held_out.model_dump() if record and record.held_out else None,
    }


def _probabilities(candidate: Candidate, differences: Floats) -> Floats | None:
    """Probability that the first image of each pair is preferred, (pairs,); None if the scorer has no such scale."""
    factor = candidate.scorer.log_odds_per_point
    return None if factor is None else np.asarray((1 + np.tanh(factor * differences / 2)) / 2)
