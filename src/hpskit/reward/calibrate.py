"""`hpskit reward calibrate`: what scorers give the same reference images, so that mixtures can bring them to one scale.

OUT/scores.ledger      every score; `hpskit evaluate --out OUT` has the same, and either uses what the other scored
OUT/calibration.json   for `Mixture` and `Gate`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError
from hpskit.evaluation.groups import read_groups
from hpskit.evaluation.run import LEDGER, Scores, score_groups
from hpskit.files import publish_json
from hpskit.reward.mixing import Calibration, Reference
from hpskit.scoring.book import Book
from hpskit.scoring.contract import Candidate, check_candidates
from hpskit.stage import Ledger, Progress


def run(
    data: DataSet, out: Path, load: Callable[[], Sequence[Candidate]], progress: Progress = lambda *_: None
) -> Calibration:
    """Score images of several a prompt, as far as they are not scored yet, and publish the statistics.

    A run that was killed goes on. What people said of the images is not read.

    Raises:
        InputError: the data cannot be used, no prompt has two images, or a scorer gives all of them the same.
        OutputError: the output cannot be written.
    """
    groups = read_groups(data)
    candidates = load()
    check_candidates(candidates)
    scorers = [candidate.scorer for candidate in candidates]
    with Ledger(out / "scores.ledger", LEDGER) as ledger:
        scored = score_groups(groups, scorers, Book(ledger), "fail", progress)
        named = {(c.label, c.scorer.info.identity): s for c, s in zip(candidates, scored.scores, strict=True)}
        found = statistics(named, data=data.name)
        publish_json(out / "calibration.json", found.model_dump())
    return found


def statistics(scores: Mapping[tuple[str, str], Scores], *, data: str) -> Calibration:
    """Compute means, deviations and correlations within prompts.

    Args:
        scores: name and identity of a scorer -> the scores of each group of images, the same groups for all.
        data: what the images are called.

    Raises:
        InputError: there is nothing to compute them from.
    """
    groups = next(iter(scores.values()))
    freedom = sum(len(own) - 1 for own in groups)
    if freedom < 2:
        raise InputError(data, "has hardly a prompt with several images", expected="three images, two of a prompt")
    centred = np.array([np.concatenate([own - own.mean() for own in each]) for each in scores.values()])
    covariance = centred @ centred.T / freedom
    deviations = np.sqrt(np.diag(covariance))
    references: dict[str, Reference] = {}
    for ((name, identity), each), deviation in zip(scores.items(), deviations.tolist(), strict=True):
        if not deviation > 0:
            raise InputError(data, f"has no images of a prompt to which {name} gives different scores", cure="add some")
        mean = float(np.concatenate(each).mean())
        references[name] = Reference(identity=identity, mean=mean, deviation=deviation)
    rows = (covariance / np.outer(deviations, deviations)).tolist()
    return Calibration(
        images=sum(map(len, groups)),
        prompts=len(groups),
        data=data,
        scorers=references,
        correlation={name: dict(zip(references, row, strict=True)) for name, row in zip(references, rows, strict=True)},
    )
