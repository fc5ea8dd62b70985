"""A file of prompts as one HTML page: what is in it, what was changed, and what was left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup

from hpskit import __version__
from hpskit.errors import InputError
from hpskit.files import read_json
from hpskit.pages.charts import Bar, Frame, bar_chart, category_axis, count_axis, value_axis
from hpskit.pages.page import check_page_free, page, publish_page
from hpskit.prompts.duplicates import TextIndex
from hpskit.prompts.records import STYLES, ChosenPrompt, CleanPrompt, State, read_prompts
from hpskit.prompts.run import LIKE
from hpskit.prompts.select import summary
from hpskit.rows import read_rows
from hpskit.schema import Strict

_EXAMPLES = 3
"""Of each rule."""
_CLUSTERS = 10
_SHOWN = 600
"""Characters of a prompt on the page."""


class Example(Strict):
    """A text in three parts, of which the middle one is marked, and what became of it."""

    before: str
    marked: str
    after: str
    result: str


def report(path: Path, out: Path) -> dict[str, Any]:
    """Write the page of a clean or a chosen file of prompts, and return what it shows.

    Raises:
        InputError: the file cannot be read or is neither.
        RecordError: a line is not what it should be.
        OutputError: the page cannot be written, or something else stands there.
    """
    check_page_free(out)
    first = next((row for _, row in read_rows(path)), {})
    if "state" in first:
        facts = _of_clean(path)
    elif "category" in first:
        facts = _of_chosen(path)
    else:
        cure = "run `hpskit prompts clean` first"
        raise InputError(path, "is no file of clean or chosen prompts", cure=cure)
    common: dict[str, Any] = {
        "package": f"hpskit {__version__}",
        "name": path.name,
        "before": None,
        "samples": {},
        "reasons": [],
    }
    publish_page(out, prompts_page({**common, "changes": None, **facts}))
    return facts


def prompts_page(result: Mapping[str, Any]) -> str:
    """Render what `report` found."""
    lengths = _lengths(result["lengths"])
    styles = _counts("prompts by style", result["summary"]["style"])
    return page("hpskit.prompts", "report.html", result=result, lengths=lengths, styles=styles)


def _of_chosen(path: Path) -> dict[str, Any]:
    prompts = list(read_prompts(path, ChosenPrompt))
    manifest = path.with_name(f"{path.stem}.manifest.json")
    value = read_json(manifest) if manifest.exists() else {}
    found = TextIndex(prompt.prompt for prompt in prompts).clusters()
    clusters = [(prompts[leader].prompt, size, ()) for leader, size in found.largest(_CLUSTERS)]
    examples = {style: [p.prompt[:_SHOWN] for p in prompts if p.category == style][: 2 * _EXAMPLES] for style in STYLES}
    return {
        **_facts(prompts, {"chosen": len(prompts)}),
        "before": value.get("before"),
        "clusters": clusters,
        "samples": examples,
        "run": value.get("run"),
    }


def _of_clean(path: Path) -> dict[str, Any]:
    states, reasons, changes = Counter[str](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    excuses, edits = (
        defaultdict[tuple[str, str], list[Example]](list),
        defaultdict[tuple[str, str], list[Example]](list),
    )
    clusters, kept, names = defaultdict[str, list[str]](list), list[CleanPrompt](), dict[str, str]()
    touched: Counter[str] = Counter()
    for prompt in read_prompts(path, CleanPrompt):
        states[prompt.state] += 1
        if prompt.state == "kept":
            kept.append(prompt.model_copy(update={"changes": (), "raw": "-"}))
        kinds = {change.kind for change in prompt.changes}
        touched.update(kinds)
        touched.update(name for name, there in (("any", kinds), ("beyond repair", kinds - {"repair"})) if there)
        for reason in prompt.reasons:
            key = (prompt.state, reason.rule)
            reasons[key] += 1
            if len(excuses[key]) < _EXAMPLES:
                shown = Example(before=prompt.prompt[:_SHOWN], marked="", after="", result=reason.value)
                excuses[key].append(shown)
            if reason.rule == "duplicate":
                clusters[reason.value.partition(LIKE)[2]].append(prompt.prompt[:_SHOWN])
        for edit in {(change.kind, change.rule) for change in prompt.changes}:
            changes[edit] += 1
            if len(edits[edit]) < _EXAMPLES:
                edits[edit].append(_edit(prompt, edit))
    largest = sorted(clusters, key=lambda leader: -len(clusters[leader]))[:_CLUSTERS]
    for prompt in read_prompts(path, CleanPrompt):
        if prompt.id in largest:
            names[prompt.id] = prompt.prompt[:_SHOWN]
    manifest = path.with_name(f"{path.stem}.manifest.json")
    return {
        **_facts(kept, {state: states[state] for state in get_args(State)}),
        "touched": {name: touched[name] for name in ("any", "beyond repair")},
        "reasons": [(state, rule, count, excuses[state, rule]) for (state, rule), count in reasons.most_common()],
        "changes": [(kind, rule, count, edits[kind, rule]) for (kind, rule), count in changes.most_common()],
        "clusters": [
            (names.get(leader, leader), len(clusters[leader]) + 1, clusters[leader][:2]) for leader in largest
        ],
        "run": read_json(manifest).get("run") if manifest.exists() else None,
    }


def _edit(prompt: CleanPrompt, key: tuple[str, str]) -> Example:
    """Show a prompt's first change by a rule, in the raw text around it."""
    change = next(change for change in prompt.changes if (change.kind, change.rule) == key)
    start, end = max(0, change.start - 120), change.end + 60
    before, after = prompt.raw[start : change.start], prompt.raw[change.end : end]
    before = f"…{before}" if start else before
    after = f"{after}…" if end < len(prompt.raw) else after
    return Example(before=before, marked=change.text[:_SHOWN], after=after, result=prompt.prompt[:_SHOWN])


def _facts(prompts: Sequence[CleanPrompt | ChosenPrompt], states: Mapping[str, int]) -> dict[str, Any]:
    if not prompts:
        return {"states": states, "summary": summary([]), "lengths": [], "mean": None}
    lengths = [prompt.tokens for prompt in prompts]
    return {"states": states, "summary": summary(prompts), "lengths": lengths, "mean": sum(lengths) / len(lengths)}


def _lengths(tokens: Iterable[int]) -> Markup | None:
    """Draw a histogram of lengths."""
    bins = Counter(min(number, 80) // 5 for number in tokens)
    if not bins:
        return None
    labels = [*map(str, range(0, 80, 20)), "80+"]
    frame = Frame(x=value_axis([0, 20, 40, 60, 80], labels, title="tokens"), y=count_axis(max(bins.values())))
    bars = [
        Bar(low=5 * n, high=5 * n + 5, value=count, title=f"{5 * n} to {5 * n + 4} tokens: {count:,}")
        for n, count in sorted(bins.items())
    ]
    return bar_chart("prompts by length", frame, bars)


def _counts(title: str, counts: Mapping[str, int]) -> Markup:
    """Draw a bar for each name."""
    frame = Frame(x=category_axis([*counts]), y=count_axis(max(1, *counts.values())))
    bars = [
        Bar(low=n - 0.35, high=n + 0.35, value=count, title=f"{name}: {count:,}")
        for n, (name, count) in enumerate(counts.items())
    ]
    return bar_chart(title, frame, bars)
