"""From raw prompts to a suite and a page, by the commands; and each filter on known texts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from browser import excess, needs_chromium, quiet_page
from conftest import Cli
from error_fields import at
from hpskit.errors import InputError
from hpskit.prompts.filters import count_tokens, detect_language, personal_data, unsafe_words
from hpskit.prompts.records import STYLES, CleanPrompt, RawPrompt, read_prompts
from hpskit.prompts.run import Filters, clean_file, judged
from hpskit.prompts.select import farthest, length_of, select_prompts, shares
from hpskit.prompts.styles import style_of
from hpskit.prompts.suites import open_suite

EVIL = "a knight <img src=x onerror=alert(1)><script>alert(2)</script> {{ 7 * 7 }} in a hall of mirrors"
RAW: dict[str, tuple[str, float | None]] = {
    "plain": ("a castle on a hill in the evening, with a river below", None),
    "twin": ("A castle on a hill in the evening, with a river below!", None),
    "near": ("a castle on a hill in the evening, with a river down below", 0.1),
    "nsfw": ("a woman at the sea", 0.9),
    "blurred": ("a man at the sea", 2.0),
    "words": ("a nude figure in the manner of the old masters", 0.1),
    "mail": ("a letter to someone@example.com on a desk", None),
    "german": ("ein kleiner Hund sitzt auf der Wiese und wartet auf seinen Freund", None),
    "long": (" ".join(f"a bird number {n} in a tree," for n in range(30)), None),
    "evil": (EVIL, None),
}
EXPECTED = {
    "plain": ("kept", []),
    "twin": ("rejected", ["duplicate"]),
    "nsfw": ("rejected", ["nsfw"]),
    "blurred": ("rejected", ["nsfw"]),
    "words": ("review", ["words"]),
    "mail": ("rejected", ["mail"]),
    "german": ("rejected", ["language"]),
    "long": ("rejected", ["tokens"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, cli: Cli) -> Path:
    folder = tmp_path_factory.mktemp("route")
    rows = [{"id": name, "prompt": prompt, "nsfw": score} for name, (prompt, score) in RAW.items()]
    things = ("harbour", "kitchen", "station", "library", "orchard", "lighthouse", "workshop", "bakery")
    for style, words in {"anime": "anime style {}", "photo": "A man standing in a {}."}.items():
        rows += [{"id": f"{style} {n}", "prompt": words.format(thing)} for n, thing in enumerate(things)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in (
        ("import", "log.jsonl", "--out", "raw.jsonl"),
        ("clean", "raw.jsonl", "--out", "clean.jsonl"),
        ("report", "clean.jsonl", "--out", "clean.html"),
        ("select", "clean.jsonl", "--n", 8, "--out", "prompts.jsonl"),
        ("report", "prompts.jsonl", "--out", "prompts.html"),
    ):
        done = cli("prompts", *words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cleaned(place: Path) -> dict[str, CleanPrompt]:
    return {prompt.id.removeprefix("log:"): prompt for prompt in read_prompts(place / "clean.jsonl", CleanPrompt)}


@pytest.mark.parametrize("name", EXPECTED)
def test_state_and_reasons(name: str, cleaned: dict[str, CleanPrompt]) -> None:
    found = cleaned[name]
    assert (found.state, [reason.rule for reason in found.reasons]) == EXPECTED[name]
    assert found.raw == RAW[name][0]


def test_nothing_gets_lost(place: Path, cleaned: dict[str, CleanPrompt]) -> None:
    raw = [prompt.id for prompt in read_prompts(place / "raw.jsonl", RawPrompt)]
    assert [f"log:{name}" for name in cleaned] == raw
    assert cleaned["twin"].reasons[0].value == "1.00 like log:plain"
    counts = json.loads((place / "clean.manifest.json").read_text())["counts"]["states"]
    assert counts == Counter(prompt.state for prompt in cleaned.values())


def test_the_same_again_is_the_same(place: Path, tmp_path: Path) -> None:
    clean_file(place / "raw.jsonl", tmp_path / "clean.jsonl", Filters())
    assert (tmp_path / "clean.jsonl").read_bytes() == (place / "clean.jsonl").read_bytes()


def test_a_broken_line_leaves_what_was_there(place: Path, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw.jsonl", tmp_path / "clean.jsonl"
    raw.write_bytes((place / "raw.jsonl").read_bytes())
    clean_file(raw, out, Filters())
    before = out.read_bytes()
    raw.write_bytes(raw.read_bytes() + b'{"prompt": "no id"}\n')
    with pytest.raises(InputError, check=at("raw.jsonl: row 27: id")):
        clean_file(raw, out, Filters())
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.jsonl", "clean.manifest.json", "raw.jsonl"]


# Filters


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane.doe@example.org now", ["mail"]),
        ("see https://example.org/a?b=1 or www.example.org", ["url"]),
        ("portrait by @some_painter", ["handle"]),
        ("call +49 30 1234 5678 today", ["phone"]),
        ("call (212) 555-0143 today", ["phone"]),
        ("pay with 4111 1111 1111 1111", ["card"]),
        ("pay with 4111 1111 1111 1112", []),
        ("in 1950, 35 mm, 1920 x 1080, 8k, f/1.8, 3840x2160, 16:9", []),
        ("a dog sits in a white car, by vincent van gogh, (red:1.2), artstation.com look", []),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 candles", []),
    ],
)
def test_personal_data(text: str, kinds: list[str]) -> None:
    found = personal_data(text)
    assert [reason.rule for reason in found] == kinds
    assert not any(
        word in reason.value for reason in found for word in text.split() if len(word) > 6 and "char" not in word
    )


@pytest.mark.parametrize(
    "text",
    [
        "A dog sits in a white car",
        "white toilet and sink",
        "a fat god in Essex",
        "a class",
        "a 40 year old man",
        "a 5 foot wall",
    ],
)
def test_harmless_words_are_harmless(text: str) -> None:
    assert unsafe_words(text) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a n a k e d lady", "words"),
        ("big breas ts, p a n t i e s", "words"),
        ("guro art, torture chamber", "words"),
        ("photo of a swedish 15 year old girl", "minor"),
        ("a 9yo boy", "minor"),
        ("a schoolgirl", "minor"),
    ],
)
def test_what_a_person_should_look_at(text: str, rule: str) -> None:
    assert [reason.rule for reason in unsafe_words(text)] == [rule]
    assert judged(RawPrompt(id="a", prompt=text, source="s"), Filters()).state == "review"


def test_words_alone_reject_nothing() -> None:
    for text in ("a nude statue", "corpses of a battle", "hentai"):
        assert judged(RawPrompt(id="a", prompt=text, source="s"), Filters()).state == "review"


def test_tokens_are_those_of_the_scorer() -> None:
    from open_clip import get_tokenizer

    for text in ("a cat", EVIL, "naïve café ☕ &amp; 8k", "x" * 300, RAW["long"][0]):
        counted, read = count_tokens(text), int((get_tokenizer("ViT-H-14")([text]) != 0).sum())
        assert min(counted, 77) == read


def test_languages() -> None:
    assert detect_language("a photograph of an old man walking in the rain").language == "en"
    assert detect_language("une photographie d'un vieil homme\nsous la pluie").language == "fr"
    assert detect_language("").score < 0.8


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("A man standing next to a parked motorcycle on a street.", "photo"),
        ("An oil painting of a stormy sea by Claude Monet.", "paintings"),
        ("A manga drawing of a schoolgirl, in the style of Studio Ghibli.", "anime"),
        ("A futuristic spaceship hangar, depicted in concept art.", "concept-art"),
    ],
)
def test_plain_styles(text: str, style: str) -> None:
    found, certainty = style_of(text)
    assert found == style
    assert 0.25 <= certainty <= 1


def test_a_style_of_nothing() -> None:
    assert style_of("")[0] in STYLES
    assert style_of("\ud83d ☕")[0] in STYLES


# Selection


def clean_prompt(number: int, **fields: Any) -> CleanPrompt:
    value: dict[str, Any] = {"id": f"{number}", "prompt": f"thing {chr(97 + number % 26)} {number}", "raw": "x"}
    value |= {
        "source": "s",
        "nsfw": None,
        "state": "kept",
        "reasons": (),
        "changes": (),
        "tokens": 9,
        "style_score": 0.9,
    }
    return CleanPrompt(**{**value, "language": "en", "language_score": 1.0, "style": "photo", **fields})


def write(path: Path, prompts: list[CleanPrompt]) -> Path:
    path.write_text("".join(prompt.model_dump_json() + "\n" for prompt in prompts))
    return path


def test_selection_is_balanced_and_repeatable(tmp_path: Path) -> None:
    prompts = [
        clean_prompt(n, style=STYLES[n % 4 if n % 3 else 0], source="ab"[n % 5 == 0], tokens=5 + n % 60, state=state)
        for n in range(400)
        for state in (["review"] if n % 7 == 0 else ["kept"])
    ]
    path = write(tmp_path / "clean.jsonl", prompts)
    done = [select_prompts(path, tmp_path / f"{seed}.jsonl", n=80, per_style=True, seed=seed // 2) for seed in range(4)]
    first, again, other, _ = [(tmp_path / f"{seed}.jsonl").read_bytes() for seed in range(4)]
    assert first == again != other
    assert done[0]["after"]["style"] == dict.fromkeys(STYLES, 20)
    for name in ("source", "length"):
        for what, count in done[0]["before"][name].items():
            share = count / sum(done[0]["before"][name].values())
            assert abs(done[0]["after"][name][what] / 80 - share) < 0.1
    suite = open_suite(tmp_path / "0.jsonl")
    assert suite.categories == STYLES
    assert {prompt.prompt for prompt in suite.prompts} <= {p.prompt for p in prompts if p.state == "kept"}


def test_too_few_prompts(tmp_path: Path) -> None:
    path = write(tmp_path / "clean.jsonl", [clean_prompt(n) for n in range(9)])
    with pytest.raises(InputError, check=at(path, found="9 kept", expected="10")):
        select_prompts(path, tmp_path / "out.jsonl", n=10)
    with pytest.raises(InputError, check=at(path, found="of the style anime")):
        select_prompts(path, tmp_path / "out.jsonl", n=8, per_style=True)
    with pytest.raises(InputError, check=at("--n", found="7")):
        select_prompts(path, tmp_path / "out.jsonl", n=7, per_style=True)


def test_shares_and_the_farthest() -> None:
    import numpy as np

    assert shares({"a": 5, "b": 3, "c": 2}, 5) == {"a": 3, "b": 1, "c": 1}
    sketches = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 2], [5, 6, 7]], np.uint32)
    assert farthest(sketches, 3).tolist() == [0, 3, 2]
    assert [length_of(tokens) for tokens in (3, 12, 34, 35)] == ["under 12", "12 to 19", "20 to 34", "35 and more"]


# Pages


def test_pages_say_what_happened(place: Path) -> None:
    page = (place / "clean.html").read_text()
    for text in ("1.00 like log:plain", "nsfw", "language", "de "):
        assert text in page
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "before" in (place / "prompts.html").read_text()


@needs_chromium
@pytest.mark.parametrize("name", ["clean.html", "prompts.html"])
def test_pages_fit_a_phone_and_run_nothing(name: str, place: Path) -> None:
    with quiet_page() as page:
        page.goto((place / name).as_uri())
        assert excess(page) == [0, 0, 0, 0]
        assert page.troubles == []


def test_a_raw_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, check=at(tmp_path / "raw.jsonl", found="cannot be read", cure="check the path")):
        clean_file(tmp_path / "raw.jsonl", tmp_path / "clean.jsonl", Filters())
    (tmp_path / "raw.txt").write_text("a cat")
    with pytest.raises(InputError, check=at(tmp_path / "raw.txt", cure="hpskit prompts import")):
        clean_file(tmp_path / "raw.txt", tmp_path / "clean.jsonl", Filters())


def test_a_report_of_something_else(place: Path, cli: Cli) -> None:
    done = cli("prompts", "report", "raw.jsonl", "--out", "raw.html", cwd=place)
    assert done.returncode == 2
    assert "run `hpskit prompts clean` first" in done.stderr
    assert not (place / "raw.html").exists()
