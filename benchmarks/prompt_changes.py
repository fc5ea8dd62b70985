"""List every change that the cleaning rules make to the 3,200 benchmark prompts, as docs/prompts-benchmark-changes.md.

python benchmarks/prompt_changes.py FOLDER > docs/prompts-benchmark-changes.md    # FOLDER has anime.json …
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hpskit.prompts.clean import Cleaned, clean
from hpskit.prompts.records import STYLES
from prompt_examples import cell

AROUND = 30
"""Characters that are shown on each side of a change."""
HEAD = """# What the rules change in the benchmark prompts

The rules of [`hpskit prompts clean`](prompts.md#cleaning) change {changed} of the 3,200 benchmark prompts beyond repair
of the text, {share:.1f} %, and mark {marked} of them for review, {marked_share:.1f} % of all. The authors of the paper
had cleaned these prompts with ChatGPT. A line shows what went, ~~crossed out~~, in the words around it, with what was
put there and the name of the rule; changes of commas and blanks that follow from it are left out. The prompts are
published under Apache-2.0 with the benchmark; a number is the place in the file of the style, from 0. This page is
written by `python benchmarks/prompt_changes.py FOLDER`.

| prompt | change | marked for review |
|---|---|---|"""


def main() -> None:
    print(page(Path(sys.argv[1])), end="")


def page(folder: Path) -> str:
    """Write the page for a folder with the four files of the benchmark."""
    rows, marked = [], 0
    for style in STYLES:
        for number, prompt in enumerate(json.loads((folder / f"{style}.json").read_text(encoding="utf-8"))):
            done = clean(prompt)
            marked += bool(done.review)
            if any(change.kind != "repair" for change in done.changes):
                rows.append(f"| {style} {number} | {shown(prompt, done)} | {cell(done.review)} |")
    head = HEAD.format(changed=len(rows), share=len(rows) / 32, marked=marked, marked_share=marked / 32)
    return "\n".join([head, *rows, ""])


def shown(prompt: str, done: Cleaned) -> str:
    """Show the changes of one prompt, each with its rule."""
    parts = []
    for change in done.changes:
        if change.kind == "repair" or change.rule in ("marks", "blanks"):
            continue
        start, end = max(0, change.start - AROUND), change.end + AROUND
        before, after = prompt[start : change.start], prompt[change.end : end]
        before = before.partition(" ")[2] if start else before
        after = after.rpartition(" ")[0] if end < len(prompt) else after
        put = f" **{cell(change.put)}**" if change.put.strip() else ""
        gone = cell(change.text.strip(" ,"))
        left, right = ("…" * (start > 0)) + cell(before), cell(after) + ("…" * (end < len(prompt)))
        parts.append(f"{left} ~~{gone}~~{put} {right} ({change.rule})".strip())
    return "; ".join(parts)


if __name__ == "__main__":
    main()
