"""A language model cleans prompts, on a real server that speaks the protocol and fails in all its ways."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server import Model, Reply, refuses, says, serve
from conftest import Cli, command_code
from error_fields import at
from forked_process import ForkedProcess
from hpskit.errors import InputError
from hpskit.prompts.llm import INSTRUCTION, LlmSettings, estimate, objection, read_llm_settings
from hpskit.prompts.records import CleanPrompt, read_prompts
from hpskit.prompts.run import Filters, clean_file
from hpskit.remote import pause

KEY = "sk-secret-of-this-test-0123456789"
OTHER_KEY = "a-key-of-no-known-form-17"


def same(prompt: str) -> Reply:
    """The prompt as it is."""
    return says({"prompt": prompt, "unclear": False})


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setenv("HPSKIT_TEST_KEY", KEY)
    with serve(lambda prompt, _: same(prompt)) as found:
        yield found


@pytest.fixture
def run(model: Model, tmp_path: Path) -> Callable[..., dict[str, CleanPrompt]]:
    """Clean prompts by the model; what became of each, by its raw text."""

    def start(*prompts: str, **settings: Any) -> dict[str, CleanPrompt]:
        raw = tmp_path / "raw.jsonl"
        rows = [{"id": f"t:{n}", "prompt": text, "source": "t"} for n, text in enumerate(prompts)]
        raw.write_text("".join(json.dumps(row) + "\n" for row in rows))
        fast = {"model": "m", "base_url": model.url, "key_variable": "HPSKIT_TEST_KEY", "per_minute": 100_000}
        clean_file(raw, tmp_path / "clean.jsonl", Filters(language=1.0), LlmSettings(**{**fast, **settings}))
        return {prompt.raw: prompt for prompt in read_prompts(tmp_path / "clean.jsonl", CleanPrompt)}

    return start


Run = Callable[..., dict[str, CleanPrompt]]


def test_an_answer_is_used_and_told(run: Run, model: Model, tmp_path: Path) -> None:
    model.reply = lambda *_: says({"prompt": "A portrait  of a red fox.", "unclear": False})
    found = run("portrait of a red fox, 8 k, trending on artstation")
    (prompt,) = found.values()
    assert (prompt.prompt, prompt.state) == ("A portrait of a red fox.", "kept")
    (change,) = prompt.changes
    assert (change.kind, change.text, change.put) == ("llm", prompt.raw, prompt.prompt)
    manifest = json.loads((tmp_path / "clean.manifest.json").read_text())
    assert {"with": "llm", "model": "m"}.items() <= manifest["run"].items()
    (request,) = model.requests
    assert request["temperature"] == 0
    assert request["response_format"]["json_schema"]["strict"] is True
    assert request["messages"][0]["content"] == INSTRUCTION
    assert model.keys == {f"Bearer {KEY}"}
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (says("", refusal="I cannot help with that."), "llm refusal: I cannot help with that."),
        (says('{"prompt": "a cat", "unclear": false}', finish_reason="length"), "llm length: longer than 500 tokens"),
        (says('{"prompt": "a c', finish_reason="length"), "llm length: longer than 500 tokens"),
        (says("", finish_reason="content_filter"), "llm filter"),
        (refuses(400, "content_policy_violation"), "llm filter: Error code: 400"),
        (says("  "), "llm empty"),
        (says("Sure! A cat."), "llm invalid: Sure! A cat."),
        (says({"text": "a cat"}), "llm invalid"),
        (says({"prompt": "a \0cat", "unclear": False}), "llm invalid"),
        (says({"prompt": "a cat", "unclear": False, "why": "x"}), "llm invalid"),
        (says({"prompt": "a cat", "unclear": True}), "llm: cannot be understood"),
        (says({"prompt": " ", "unclear": False}), "llm: cannot be understood"),
        (says({"prompt": "a cat and a dog", "unclear": False}), "llm adds dog"),
        (says({"prompt": "two cats", "unclear": False}), "llm adds 2"),
    ],
)
def test_no_answer_and_a_wrong_one_go_to_review(reply: Reply, said: str, run: Run, model: Model) -> None:
    model.reply = lambda *_: reply
    (prompt,) = run("a cat").values()
    assert prompt.state == "review"
    (reason,) = prompt.reasons
    assert reason.value.startswith(said)
    assert "a cat" in prompt.raw
    if "adds" not in said:
        assert prompt.prompt == "a cat", "half an answer is never used"


def test_an_answer_is_asked_for_once_whatever_becomes_of_the_run(run: Run, model: Model) -> None:
    prompts = [f"a cat on a chair number {n}" for n in range(12)]
    model.reply = lambda prompt, _: refuses(401) if "number 9" in prompt else says({"prompt": prompt, "unclear": False})
    with pytest.raises(
        InputError, check=at(model.url, found="refuses the key (401)", cure="HPSKIT_TEST_KEY")
    ) as caught:
        run(*prompts, concurrency=1)
    assert KEY not in str(caught.value)
    assert sum(model.asked.values()) == 10
    model.reply = lambda prompt, _: same(prompt)
    assert len(run(*prompts)) == 12
    assert Counter(model.asked.values()) == {1: 11, 2: 1}
    run(*prompts, prompts[0])
    assert sum(model.asked.values()) == 13, "the same prompt is not asked for twice"


def test_a_model_that_never_answers_in_the_form_is_asked_no_more_and_again_when_it_is_mended(
    run: Run, model: Model
) -> None:
    prompts = [f"a cat and chair {n}" for n in range(30)]
    model.reply = lambda *_: says("Sure! A cat.")
    with pytest.raises(InputError, check=at(model.url, found="10 times in a row", cure="structured = 'object'")):
        run(*prompts, concurrency=1)
    assert sum(model.asked.values()) == 10
    model.reply = lambda prompt, _: says({"prompt": prompt})
    assert {prompt.state for prompt in run(*prompts).values()} == {"kept"}
    assert sum(model.asked.values()) == 40


@pytest.mark.parametrize("reply", [refuses(429), refuses(500), refuses(503), refuses(408)])
def test_what_may_pass_is_tried_again(reply: Reply, run: Run, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpskit.remote.pause", lambda *_: 0.01)
    model.reply = lambda prompt, before: reply if before < 3 else same(prompt)
    assert run("a cat")["a cat"].state == "kept"
    model.reply = lambda *_: reply
    with pytest.raises(InputError, check=at(model.url, found="answers", cure="answers so far are kept")):
        run("a dog", tries=3)
    assert model.asked["a dog"] == 3


def test_the_wait_that_the_server_asks_for_is_kept(run: Run, model: Model) -> None:
    model.reply = lambda prompt, before: (
        refuses(429, Retry_After="2") if not before else says({"prompt": prompt, "unclear": False})
    )
    began = time.monotonic()
    run("a cat")
    assert time.monotonic() - began >= 2


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (refuses(403), "refuses the key (403)"),
        (refuses(429, "insufficient_quota"), "answers 429"),
        (refuses(404, "model_not_found"), "answers 404"),
        (refuses(400, "bad_schema"), "answers 400"),
        ((200, {}, {"hello": "world"}), "no chat completion"),
        ((200, {"Content_Type": "text/html"}, b"<html>please log in</html>"), "no chat completion"),
        ((200, {}, {"choices": []}), "no chat completion"),
        ((200, {}, {"choices": {"first": "a cat"}}), "no chat completion"),
        ((200, {}, b"{"), "no chat completion"),
        ((200, {}, b"[" * 200_000), "no chat completion"),
    ],
)
def test_a_server_that_cannot_be_used_stops_the_run_with_one_line(
    reply: Reply, found: str, run: Run, model: Model
) -> None:
    model.reply = lambda *_: reply
    with pytest.raises(InputError, check=at(model.url, found=found)) as caught:
        run("a cat", "a dog", "a bird")
    assert "\n" not in str(caught.value)
    assert max(model.asked.values()) == 1


def test_a_key_that_is_none_is_named_before_anything_is_asked(
    run: Run, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("schlüssel", "two\nlines"):
        monkeypatch.setenv("HPSKIT_TEST_KEY", value)
        with pytest.raises(InputError, check=at("key_variable", found="HPSKIT_TEST_KEY")) as caught:
            run("a cat")
        assert value not in str(caught.value)
    assert not model.asked


@pytest.mark.parametrize(
    "reply", [(400, {}, {"error": {"message": f"policy {OTHER_KEY}"}}), says("", refusal=f"no, {OTHER_KEY}")]
)
def test_a_key_that_a_server_repeats_is_written_nowhere(
    reply: Reply, run: Run, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPSKIT_TEST_KEY", OTHER_KEY)
    model.reply = lambda *_: reply
    run("a cat")
    assert model.keys == {f"Bearer {OTHER_KEY}"}
    assert all(OTHER_KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "usage",
    [None, "much", {"prompt_tokens": "7", "completion_tokens": 1}, {"prompt_tokens": -(10**9), "completion_tokens": 0}],
)
def test_a_budget_holds_with_a_server_that_does_not_say_what_it_used(run: Run, model: Model, usage: object) -> None:
    model.reply = lambda prompt, _: {**same(prompt), "usage": usage}  # type: ignore[dict-item]
    priced = {"price_in": 1000.0, "price_out": 1000.0, "concurrency": 1}
    with pytest.raises(InputError, check=at("budget", found="is spent after", cure="answers are kept")):
        run(*(f"a cat and chair {n}" for n in range(4)), **priced, budget=3.6)
    assert 0 < model.asked.total() < 4


def test_an_answer_that_never_ends_is_a_server_that_cannot_be_reached(run: Run, model: Model) -> None:
    """It sends a little now and then, so that no single piece is late."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n")
                for _ in range(100):
                    connection.sendall(b" ")
                    time.sleep(0.1)

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(InputError, check=at(found="cannot be reached")):
            run("a cat", base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout=0.5, tries=1)
        thread.join()
        assert time.monotonic() - began < 5


def test_nobody_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpskit.remote.pause", lambda *_: 0.01)
    with pytest.raises(InputError, check=at("http://127.0.0.1:9", found="cannot be reached", cure="base_url")):
        run("a cat", base_url="http://127.0.0.1:9/v1", tries=2)


def test_no_more_is_asked_at_once_or_in_a_minute_than_allowed(run: Run, model: Model) -> None:
    def slowly(prompt: str, _: int) -> Reply:
        time.sleep(0.05)
        return same(prompt)

    model.reply = slowly
    prompts = [f"a cat and chair {n}" for n in range(12)]
    run(*prompts, concurrency=3)
    assert model.most_at_once <= 3
    began = time.monotonic()
    run(*(f"{prompt} again" for prompt in prompts), per_minute=600)
    assert time.monotonic() - began >= 1.1


def test_the_budget_is_looked_at_before_and_is_never_passed(run: Run, model: Model) -> None:
    prompts = [f"a cat and chair {n}" for n in range(40)]
    priced = {"price_in": 1000.0, "price_out": 1000.0}
    cost = estimate(prompts, LlmSettings(model="m", **priced))[2]
    with pytest.raises(InputError, check=at("budget", expected=f"about ${cost:.2f} for 40 prompts")):
        run(*prompts, **priced, budget=cost / 2)
    assert not model.asked
    with pytest.raises(InputError, check=at("budget", found="is spent after", cure="answers are kept")):
        run(*prompts, **priced, budget=1.01 * cost)  # an answer costs 1.1 dollars, more than was guessed
    assert 1.1 * sum(model.asked.values()) <= 1.01 * cost
    assert len(run(*prompts, **priced)) == 40
    assert set(model.asked.values()) == {1}


@pytest.mark.parametrize(
    ("raw", "answer", "said"),
    [
        ("two cats, 8k", "Two cats.", ""),
        ("2 cats sleeping, masterpiece", "Two sleeping cats.", ""),
        ("portrait of a fox, octane render", "A portrait of a fox.", ""),
        ("a blak cat", "A black cat.", "adds"),
        ("two cats", "Three cats.", "loses 2"),
        ("two cats", "Some cats.", "loses 2"),
        ("a red car", "A blue car.", "loses red"),
        ("a street without people", "A street with people.", "loses"),
        ("a street", "A street, no people.", "adds"),
        ("a dog left of a cat", "A dog right of a cat.", "loses left"),
        ("a red fox in a suit, artstation", "A portrait of a man in a suit.", "adds"),
        ("an astronaut on a horse", "A horse.", ""),
        ("knight fighting dragon", "A scene.", "loses the subject"),
        ("a fox, artstation, trending, 8k", "A fox, trending, 8k.", "still has"),
        ("girl left | boy right", "A girl on the left and a boy on the right.", ""),
    ],
)
def test_answers_are_checked_against_the_prompt(raw: str, answer: str, said: str) -> None:
    found = objection(raw, answer)
    assert found.startswith(said)
    assert bool(found) == bool(said)


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_check_takes_any_text(raw: str, answer: str) -> None:
    assert isinstance(objection(raw, answer), str)


def test_pauses() -> None:
    """What the server asks for, as seconds or as a date; else longer each time; a quarter more at most."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    for failed, header, least in (
        (0, None, 0.5),
        (3, None, 4),
        (0, "7", 7),
        (3, "-7", 4),
        (1, "soon", 1),
        (1, "Wed, 21 Oct 2015 07:28:00 +999999999999999999999", 1),
        (0, date, 25),
    ):
        assert least <= pause(failed, header) <= max(1.25 * least, 38 * (header == date))
    assert pause(0, "Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "llm.toml"
    for text, place, found in (
        ("", "llm.toml: model", "is missing"),
        ('model = "m"\nbudget = 3.0', "llm.toml: budget", "no price"),
        ('model = "m"\nconcurency = 3', "llm.toml: concurency", ""),
        ("[", "llm.toml", "is not TOML"),
        ('model = "m"\nbase_url = "http://127.0.0.1:65536/v1"', "llm.toml: base_url", "65536"),
        ('model = "m"\nbase_url = "::::"', "llm.toml: base_url", "::::"),
        ('model = "m"\ntimeout = 1e300', "llm.toml: timeout", ""),
    ):
        path.write_text(text)
        with pytest.raises(InputError, check=at(place, found=found)):
            read_llm_settings(path)


def test_ctrl_c_keeps_the_answers_and_says_so(model: Model, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text(
        "".join(json.dumps({"id": f"t:{n}", "prompt": f"a cat number {n}", "source": "t"}) + "\n" for n in range(8))
    )
    (tmp_path / "llm.toml").write_text(f'model = "m"\nbase_url = "{model.url}"\nconcurrency = 1\n')
    words = ["prompts", "clean", "raw.jsonl", "--with", "llm", "--llm", "llm.toml", "--out", "clean.jsonl"]
    held = threading.Event()
    model.reply = lambda prompt, _: (held.wait(60), same(prompt))[1] if "number 5" in prompt else same(prompt)
    process = ForkedProcess(command_code(["hpskit", *words]), cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not any("number 5" in prompt for prompt in model.asked):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    done = process.finish()
    held.set()
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "interrupted; the same command goes on with what is done"
    assert cli(*words, cwd=tmp_path).returncode == 0
    assert sorted(model.asked.values()) == [1] * 7 + [2]


def test_the_command(model: Model, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "raw.txt").write_text("a cat on a chair, 8k\n")
    model.reply = lambda *_: says({"prompt": "A cat on a chair.", "unclear": False})
    (tmp_path / "llm.toml").write_text(f'model = "m"\nbase_url = "{model.url}"\n')
    assert cli("prompts", "import", "raw.txt", "--out", "raw.jsonl", cwd=tmp_path).returncode == 0
    words = ["prompts", "clean", "raw.jsonl", "--with", "llm", "--out", "clean.jsonl"]
    missing = cli(*words, cwd=tmp_path)
    assert missing.returncode == 2
    assert "--llm: is missing" in missing.stderr
    done = cli(*words, "--llm", "llm.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "clean.jsonl").read_text())["prompt"] == "A cat on a chair."
