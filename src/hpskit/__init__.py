"""Human preference for generated images, measurable: see README.md.

`import hpskit` is fast and imports no torch; the names that need it are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hpskit.errors import HpskitError
    from hpskit.records import RankedImage, ScorerInfo
    from hpskit.scoring.contract import Scorer
    from hpskit.scoring.scorer import PreferenceScorer, load_scorer

__all__ = ["HpskitError", "PreferenceScorer", "RankedImage", "Scorer", "ScorerInfo", "__version__", "load_scorer"]

_HOMES = {
    "HpskitError": "hpskit.errors",
    "PreferenceScorer": "hpskit.scoring.scorer",
    "RankedImage": "hpskit.records",
    "Scorer": "hpskit.scoring.contract",
    "ScorerInfo": "hpskit.records",
    "load_scorer": "hpskit.scoring.scorer",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hpskit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
