"""Rules that make a prompt say what is to be seen, and nothing that only a generator reads.

Three passes in this order, since each needs what the one before it leaves: *repair* of the text (mojibake, digits and
hyphens that a tokeniser took apart), *syntax* of user interfaces (weights, alternations, LoRA tags, settings), and
*boosters* (quality, sites, renderers, cameras, stacks of artists, a second medium). Every change names its rule and
its place in the raw text. What the rules do not understand they leave, and mark for review; so is a result that
`doubts` finds unfinished or torn.

The paper (section 3.1) has ChatGPT do this; the words here are those that DiffusionDB repeats most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpskit.prompts.boosters import boosters
from hpskit.prompts.doubts import doubt
from hpskit.prompts.repair import Change, Draft, repair
from hpskit.prompts.suites import LONGEST
from hpskit.prompts.syntax import syntax


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """A prompt after the rules."""

    text: str
    """Never blank if the raw text was not."""
    changes: tuple[Change, ...]
    """In the order in which they were made; an edit may lie inside what an earlier one had put there."""
    review: str
    """Why a person should look at it; empty if nobody has to."""


def clean(raw: str) -> Cleaned:
    """Apply all rules to one prompt.

    Never raises, whatever the brackets do, and is idempotent: a clean text stays as it is.
    """
    if len(raw) > LONGEST:
        return Cleaned(text=raw, changes=(), review=f"has {len(raw):,} characters, more than {LONGEST:,}")
    draft = Draft(raw)
    repair(draft)
    review = syntax(draft)
    if not content(draft.text):
        return Cleaned(text=raw, changes=(), review="holds no word")
    text, changes = draft.text, tuple(draft.changes)
    boosters(draft)
    if content(draft.text) < min(2, content(text)):
        return Cleaned(text=text, changes=changes, review=review or "says hardly anything but boosters")
    return Cleaned(text=draft.text, changes=tuple(draft.changes), review=review or doubt(draft))


def content(text: str) -> int:
    """Count words, emoji among them."""
    return len(re.findall(r"[^\W_]+|[^\s\x00-\x7f]", text))
