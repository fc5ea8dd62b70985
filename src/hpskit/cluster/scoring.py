"""A block of rows through a scorer: what becomes of each, whoever runs it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from hpskit.cluster.shards import END
from hpskit.errors import HpskitError, ImageError
from hpskit.pixels import Encoded
from hpskit.scoring.addresses import Address, as_address
from hpskit.scoring.book import shortest
from hpskit.scoring.scorer import PreferenceScorer, load_scorer
from hpskit.scoring.streaming import Outcome, by_halves, stream

_THREADS = 16
"""Threads that bring and decode images where they are at addresses, or a GPU waits for them."""
TEXTS = ("shard", "outcome", "id", "error", "scorer")
SCORED = pa.schema({"position": pa.int64(), "score": pa.float64(), **dict.fromkeys(TEXTS, pa.string())})
"""What becomes of a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """A scorer, as `load_scorer` takes it; each process that scores loads it for itself."""

    model: str
    arch: str | None = None
    precision: str = "auto"
    device: str = "auto"
    batch_size: int | None = None
    antialias: bool | None = None

    def load(self) -> PreferenceScorer:
        """Load it, so that a score does not depend on what is scored beside it: a kill would change that."""
        options = {name: value for name, value in asdict(self).items() if name != "model"}
        return load_scorer(self.model, **options, batch_invariant=True)


def scored(scorer: PreferenceScorer, block: pa.Table) -> pa.Table:
    """Score a block of rows: what becomes of each, in the same order.

    Raises:
        ModelError: the scorer can score some of them not, and a plain grey image neither.
        Exception: whatever else stops a network.
    """
    rows, images = block.to_pylist(), []
    for row in rows:
        try:
            images += [image_of(row)] if row["error"] is None else []
        except ImageError as error:  # an address that is none
            row["error"] = str(error)
    ready = [row for row in rows if row["error"] is None]
    many = torch.cuda.is_available() or any(isinstance(image, Address) for image in images)
    more = {"threads": _THREADS} if many else {}

    def ask(images: list[Any], prompts: list[str]) -> list[Outcome]:
        return [outcome for batch in stream([scorer], images, prompts, bring=bring, **more) for outcome in batch]

    outcomes = by_halves(ask, images, [row["prompt"] for row in ready])
    ours = [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, ImageError)]
    if ours and not (all(isinstance(one, HpskitError) for one in ours) and works(scorer)):
        raise ours[0]  # such as a GPU that is lost: no row is to blame
    said = iter(outcomes)
    results = [result(row, row["error"] if row["error"] is not None else next(said)) for row in rows]
    for one in results:
        one["scorer"] = scorer.info.identity if one["outcome"] == "scores" else None
    return pa.Table.from_pylist(results, SCORED)


def works(scorer: PreferenceScorer) -> bool:
    """Tell whether a scorer can score an image that is beyond doubt now: if so, those that it cannot are to blame."""
    try:
        scorer.score([Image.new("RGB", (64, 64), (128, 128, 128))], "a grey square")
    except Exception:  # noqa: BLE001  # whatever stops a network
        return False
    return True


def image_of(row: dict[str, Any]) -> Encoded | Address | Path:
    """Return the image of a row of a block."""
    if row["image"] is not None:
        return Encoded(row["image"], row["path"])
    named = as_address(row["path"])
    return Path(row["path"]) if named is None else named


def bring(image: Encoded | Address | Path) -> Encoded | Path:
    """Bring an image that is elsewhere."""
    return image.read() if isinstance(image, Address) else image


def result(row: dict[str, Any], outcome: Outcome | Exception | str) -> dict[str, Any]:
    """Return the row of the output."""
    if isinstance(outcome, list) and not math.isfinite(outcome[0]):
        outcome = f"{row['id']}: has the score {outcome[0]}, expected a number"
    own = {name: row[name] for name in ("position", "shard", "id")}
    if isinstance(outcome, list):
        return own | {"outcome": "scores", "score": shortest(outcome[0])}
    return own | ({"outcome": "ends"} if outcome == END else {"outcome": "errors", "error": str(outcome)})
