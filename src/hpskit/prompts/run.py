"""Clean a file of raw prompts: rules, filters, styles, then near-duplicates among what is left."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.errors import InputError
from hpskit.files import check_regular, sha256_file
from hpskit.prompts import filters
from hpskit.prompts.clean import Cleaned, clean
from hpskit.prompts.duplicates import SIMILARITY, TextIndex
from hpskit.prompts.llm import Answers, LlmSettings
from hpskit.prompts.records import CleanPrompt, RawPrompt, Reason, State, check_output, publish_lines, read_prompts
from hpskit.prompts.styles import style_of
from hpskit.schema import Strict
from hpskit.stage import Ledger

FORMAT = "hpskit prompts clean 1"
LIKE = " like "
"""Parts the value of the rule `duplicate`: similarity, and the id of the leader."""
_REJECTING = ("tokens", "language", "nsfw", *filters.SEVERE)


class Filters(Strict):
    """Settings that decide whether a prompt is kept."""

    tokens: int = filters.TOKENS
    """Most tokens, as the scorer counts."""
    language: float = filters.LANGUAGE
    """Certainty, 0 to 1, from which a language other than English rejects."""
    nsfw: float = filters.NSFW
    """Score of the source from which a prompt is rejected."""
    similarity: float = SIMILARITY
    """Jaccard similarity of 5-grams, 0.5 to 1, from which two prompts are near-duplicates."""


def judged(prompt: RawPrompt, settings: Filters, cleaner: Callable[[str], Cleaned] = clean) -> CleanPrompt:
    """Clean a prompt and find every reason not to keep it, near-duplicates apart."""
    done = cleaner(prompt.prompt)
    text = done.text if done.text.strip() else prompt.prompt
    tokens, language = filters.count_tokens(text), filters.detect_language(text)
    style, style_score = style_of(text)
    reasons = [*filters.personal_data(text), *filters.unsafe_words(text)]
    if tokens > settings.tokens:
        reasons.append(Reason(rule="tokens", value=f"{tokens}"))
    if language.language != "en" and language.score >= settings.language:
        reasons.append(Reason(rule="language", value=f"{language.language} {language.score:.2f}"))
    if prompt.nsfw is not None and prompt.nsfw >= settings.nsfw:
        reasons.append(Reason(rule="nsfw", value=f"{prompt.nsfw:.2f}"))
    if done.review:
        reasons.append(Reason(rule="unclear", value=done.review))
    rejects = any(reason.rule in _REJECTING for reason in reasons)
    state: State = "rejected" if rejects else "review" if reasons else "kept"
    return CleanPrompt(
        id=prompt.id,
        prompt=text,
        raw=prompt.prompt,
        source=prompt.source,
        nsfw=prompt.nsfw,
        state=state,
        reasons=tuple(reasons),
        changes=done.changes,
        tokens=tokens,
        language=language.language,
        language_score=round(language.score, 3),
        style=style,
        style_score=round(style_score, 3),
    )


def clean_file(
    path: Path,
    out: Path,
    settings: Filters,
    llm: LlmSettings | None = None,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> dict[str, Any]:
    """Clean a file of raw prompts, whole or not at all, and return its manifest with the counts.

    Without `llm` the rules clean; with it a language model does, whose answers stay in a ledger beside `out`.
    Of near-duplicates that nothing rejects, the first is kept. Texts wait in a temporary file beside `out`; about 1 kB
    of memory for each.

    Raises:
        InputError: the file cannot be read or is empty, or a setting is out of range.
        RecordError: a line is not what it should be.
        OutputError: the file cannot be written.
        MissingExtraError: the extra `prompts` is not installed.
    """
    check_output(out, FORMAT)
    if path.suffix.lower() != ".jsonl":
        cure = "run `hpskit prompts import` first"
        raise InputError(path, "is no file of raw prompts", expected="a .jsonl file that hpskit wrote", cure=cure)
    check_regular(path)
    if llm is None:
        return _clean_file(path, out, settings, {"with": "rules"}, clean, progress)
    with Ledger(out.with_name(f".{out.stem}.llm.ledger"), {"format": "hpskit llm answers 1"}) as ledger:
        answers = Answers(ledger, llm)
        raw = (prompt.prompt for prompt in read_prompts(path, RawPrompt))
        asked = [one for some in iter(lambda: [*islice(raw, 10_000)], []) for one in answers.missing(some)]
        progress("asking the model", 0, len(asked))
        answers.ask([*dict.fromkeys(asked)], lambda done: progress("asking the model", done, len(asked)))
        cleaner = {"with": "llm", "model": llm.model, "instruction": answers.instruction, "dollars": answers.spent}
        return _clean_file(path, out, settings, cleaner, answers.clean, progress)


def _clean_file(
    path: Path,
    out: Path,
    settings: Filters,
    about: dict[str, Any],
    cleaner: Callable[[str], Cleaned],
    progress: Callable[[str, int, int | None], None],
) -> dict[str, Any]:
    facts: dict[str, Any] = {"package": f"hpskit {__version__}"}
    facts["run"] = {**about, "raw": path.name, "sha256": sha256_file(path), **settings.model_dump()}
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("states", "reasons", "changes", "changed")}

    def lines() -> Iterator[CleanPrompt]:
        with tempfile.TemporaryFile("w+", encoding="utf-8", dir=out.parent) as waiting:
            ids, texts = [], []
            for number, raw in enumerate(read_prompts(path, RawPrompt), 1):
                prompt = judged(raw, settings, cleaner)
                if prompt.state != "rejected":
                    ids.append(prompt.id)
                    texts.append(prompt.prompt)
                waiting.write(json.dumps(prompt.model_dump()) + "\n")
                progress("cleaning", number, None)
            progress("near-duplicates", 0, None)
            found = TextIndex(texts, limit=settings.similarity).clusters()
            waiting.seek(0)
            place = 0
            for line in waiting:
                prompt = CleanPrompt.model_validate_json(line)
                if prompt.state != "rejected":
                    leader = int(found.leader[place])
                    if leader != place:
                        value = f"{found.similarity[place]:.2f}{LIKE}{ids[leader]}"
                        reasons = (*prompt.reasons, Reason(rule="duplicate", value=value))
                        prompt = prompt.model_copy(update={"state": "rejected", "reasons": reasons})
                    place += 1
                _count(prompt, counts)
                yield prompt
        facts["counts"] = {name: dict(counter.most_common()) for name, counter in counts.items()}

    publish_lines(out, FORMAT, facts, lines())
    return facts


def _count(prompt: CleanPrompt, counts: dict[str, Counter[str]]) -> None:
    counts["states"][prompt.state] += 1
    counts["reasons"].update({reason.rule for reason in prompt.reasons})
    counts["changes"].update(f"{change.kind}: {change.rule}" for change in prompt.changes)
    kinds = {change.kind for change in prompt.changes}
    counts["changed"].update(kinds)
    counts["changed"].update(name for name, so in (("any", kinds), ("beyond repair", kinds - {"repair"})) if so)
