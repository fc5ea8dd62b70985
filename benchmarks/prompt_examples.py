"""Draw prompts that the cleaning rules change beyond repair, and write them as the table of docs/prompts-examples.md.

    python benchmarks/prompt_examples.py diffusiondb_raw.jsonl pickapic_raw.txt [--seed 7] [--each 100]

`prompt_examples.toml` holds what a person said of each: those that are left out and the next drawn, and what is wrong
with the bad ones. All others are good. The rubric is in the document.
"""

from __future__ import annotations

import argparse
import random
import re
import tomllib
from pathlib import Path

from hpskit.prompts.clean import clean
from hpskit.prompts.sources import raw_prompts


def cell(text: str) -> str:
    """Show a text in a table: no control characters, no Markdown."""
    text = re.sub(r"\s+|[\x00-\x1f\x7f]", " ", text.strip())
    return re.sub(r"([\\|`*_<>\[\]~#&$@])", r"\\\1", text)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--each", type=int, default=100)
    options = parser.parse_args()
    judged = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    print("| | before | after | verdict |\n|---|---|---|---|")
    for path in options.files:
        prompts = list(raw_prompts(path, path.stem))
        random.Random(options.seed).shuffle(prompts)
        found = 0
        for prompt in prompts:
            done = clean(prompt.prompt)
            if prompt.id in judged["left_out"] or all(change.kind == "repair" for change in done.changes):
                continue
            found += 1
            wrong = judged["bad"].get(prompt.id, "")
            mark = f" (marked: {done.review})" if done.review else ""
            verdict = f"**bad**: {wrong}" if wrong else "good"
            number = prompt.id.removeprefix(f"{path.stem}:")
            print(f"| {number} | {cell(prompt.prompt)} | {cell(done.text)}{mark} | {verdict} |")
            if found == options.each:
                break


if __name__ == "__main__":
    main()
