"""Draw prompts that the cleaning rules change beyond repair, and write them as the tables of docs/prompts-examples.md.

    python benchmarks/prompt_examples.py diffusiondb_raw.jsonl pickapic_raw.txt [--seed 17] [--each 100] [--review 25]

Of each file so many that the rules stand by, and so many that they mark for review. `prompt_examples.toml` holds what a
person said of each: those that are left out and the next drawn, and what is wrong with the bad ones. All others are
good. The rubric is in the document. Counts go to standard error.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from hpskit.prompts.clean import Cleaned, clean
from hpskit.prompts.records import RawPrompt
from hpskit.prompts.sources import raw_prompts


def cell(text: str) -> str:
    """Show a text in a table: no control characters, no Markdown."""
    text = re.sub(r"\s+|[\x00-\x1f\x7f]", " ", text.strip())
    return re.sub(r"([\\|`*_<>\[\]~#&$@])", r"\\\1", text)


def changed(path: Path, seed: int, left_out: list[str]) -> Iterator[tuple[RawPrompt, Cleaned]]:
    """Shuffle the prompts of a file and go through those that are changed beyond repair."""
    prompts = list(raw_prompts(path, path.stem))
    random.Random(seed).shuffle(prompts)
    for prompt in prompts:
        done = clean(prompt.prompt)
        if prompt.id not in left_out and any(change.kind != "repair" for change in done.changes):
            yield prompt, done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--review", type=int, default=25)
    options = parser.parse_args()
    judged = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    kept, marked, first = list[str](), list[str](), list[bool]()
    for path in options.files:
        held = [0, 0]
        for seen, (prompt, done) in enumerate(changed(path, options.seed, judged["left_out"])):
            review = bool(done.review)
            wrong = judged["bad"].get(prompt.id, "")
            if seen < options.each:
                first.append(not wrong or (review and prompt.id not in judged["spoiled"]))
            if held[review] < (options.each, options.review)[review]:
                verdict = f"**bad**: {wrong}" if wrong else "good"
                number = prompt.id.removeprefix(f"{path.stem}:")
                columns = [number, cell(prompt.prompt), cell(done.text), *[cell(done.review)] * review, verdict]
                (marked if review else kept).append(f"| {' | '.join(columns)} |")
            held[review] += 1
            if held[0] >= options.each and held[1] >= options.review:
                break
        print(f"{path.stem}: {held[1]} of {sum(held)} changed prompts are marked for review", file=sys.stderr)
    for name, rows in (("stood by", kept), ("marked for review", marked)):
        print(f"{name}: {sum(row.endswith('| good |') for row in rows)} of {len(rows)} are good", file=sys.stderr)
    print(f"all: {sum(first)} of {len(first)} are good, of those in review all that are not spoiled", file=sys.stderr)
    print("## Two hundred that the rules stand by\n\n| id | before | after | verdict |\n|---|---|---|---|")
    print(*kept, sep="\n")
    print(
        "\n## Fifty that the rules mark for review\n\n| id | before | after | marked | verdict |\n|---|---|---|---|---|"
    )
    print(*marked, sep="\n")


if __name__ == "__main__":
    main()
