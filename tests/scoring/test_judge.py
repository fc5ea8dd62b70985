"""A judge is asked on a real server that speaks the protocol; what is no score is an error of its image, never a 0."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chat_server import Model, Reply, refuses, says, serve
from conftest import Cli
from error_fields import at
from hpskit import load_scorer
from hpskit.errors import HpskitError, ImageError, InputError, RecordError, UnknownModelError
from hpskit.evaluation.run import Evaluation
from hpskit.evaluation.run import run as evaluate
from hpskit.scoring.contract import Candidate
from hpskit.scoring.files import ScoreFile, run

KEY = "a-key-of-no-known-form-17"


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setenv("HPSKIT_JUDGE_KEY", KEY)
    monkeypatch.setattr("hpskit.remote.pause", lambda *_: 0.01)
    with serve(lambda prompt, _: says({"score": len(prompt)})) as found:
        yield found


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for shade, path in enumerate(paths):
        Image.fromarray(np.full((8, 12, 3), 40 * shade, dtype=np.uint8)).save(path)
    return paths


def name(judge: Model, template: str = "") -> str:
    return f"judge:{judge.url}/Qwen/Qwen3-VL-8B{template}"


def items(path: Path, pictures: list[Path], *prompts: str) -> Path:
    rows = [{"image": pictures[n % len(pictures)].name, "prompt": prompt} for n, prompt in enumerate(prompts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --- what is asked, and what becomes of the answer


def test_a_score_is_what_the_model_says(judge: Model, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"ORG_ID": "ours", "PROJECT_ID": "private", "CUSTOM_HEADERS": "x-mine: private"}.items():
        monkeypatch.setenv(f"OPENAI_{variable}", value)
    scorer = load_scorer(name(judge))
    assert scorer.score(pictures[1:3], ["a {cat}", "a dog"]).tolist() == [7, 5]
    assert [line.image for line in scorer.rank("a cat", pictures[:2])] == [str(path) for path in pictures[:2]]
    assert (scorer.reads_prompt, scorer.log_odds_per_point) == (True, None)
    assert scorer.info.name == name(judge) == load_scorer(name(judge, "#rate")).info.name
    assert judge.keys == {f"Bearer {KEY}"}
    assert not [header for header in judge.headers if header.startswith("openai") or header == "x-mine"]
    asked = dict(zip(judge.asked, judge.requests, strict=False))["a {cat}"]
    assert (asked["model"], asked["temperature"]) == ("Qwen/Qwen3-VL-8B", 0)
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["score"]
    (message,) = asked["messages"]
    url = message["content"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert np.array_equal(np.asarray(sent), np.asarray(Image.open(pictures[1]))), "no pixel is lost on the way"


@pytest.mark.parametrize(
    ("template", "answer", "score"),
    [
        ("#rate-plain", '```json\n{"score": 61.5}\n```', 61.5),
        ("#unified-reward", "cat (animal): 1\nred (color): 0\nFinal Score: 3.5", 3.5),
        ("#unified-reward", "Final Score: 2 at first, but\n**Final Score:** **4**", 4),
        ("#unified-reward", "Final Score: 4/5. It shows a cat.", 4),
        ("#unified-reward-2", "Alignment Score (1-5): 4.5\nCoherence Score (1-5): 3\nStyle Score (1-5): 1.5\n", 3),
    ],
)
def test_templates(template: str, answer: str, score: float, judge: Model, pictures: list[Path]) -> None:
    judge.reply = lambda *_: says(answer)
    scorer = load_scorer(name(judge, template))
    assert scorer.score(pictures[0], "a cat").tolist() == [score]
    (request,) = judge.requests
    assert "response_format" not in request
    assert "a cat" in request["messages"][0]["content"][1]["text"]
    own = scorer.info.identity
    assert template[1:] in own
    assert own != load_scorer(name(judge)).info.identity


NO_SCORES: list[tuple[str, Reply, str]] = [
    ("", says("", refusal="I cannot help with that."), "refusal: I cannot help with that."),
    ("", says('{"score": 50}', finish_reason="length"), "length: longer than 2000 tokens"),
    ("", says("", finish_reason="content_filter"), "no score (filter)"),
    ("", refuses(400, "content_policy_violation"), "filter: "),
    ("", refuses(400, "aspect ratio must be smaller than 200"), "rejected: "),
    ("", refuses(413), "rejected: "),
    ("", says(" "), "no score (empty)"),
    ("", says("Sure! I would say 50."), "invalid: Sure! I would say 50."),
    ("", says({"score": 101}), "invalid"),
    ("", says({"score": -1}), "invalid"),
    ("", says({"score": "50"}), "invalid"),
    ("", says({"score": None}), "invalid"),
    ("", says('{"score": NaN}'), "invalid"),
    ("", says('{"score": 1e999}'), "invalid"),
    ("#unified-reward", says("Final Score: 0"), "invalid"),
    ("#unified-reward", says("Final Score: -3"), "invalid"),
    ("#unified-reward", says("Final Score: 45"), "invalid"),
    ("#unified-reward", says("Final Score: 3,5"), "invalid"),
    ("#unified-reward", says("Final Score: 3 out of 10"), "invalid"),
    ("#unified-reward", says("Final Score: 2\nFinal Score: 3 to 4"), "invalid"),
    ("#unified-reward", says("Final Score: 2e0"), "invalid"),
    ("#unified-reward", says("assign a score from 1 to 5 after 'Final Score:'."), "invalid"),
    ("#unified-reward-2", says("Alignment Score (1-5): 4\nCoherence Score (1-5): 3"), "invalid"),
]


@pytest.mark.parametrize(("template", "reply", "found"), NO_SCORES)
def test_no_score_is_the_error_of_its_image(
    template: str, reply: Reply, found: str, judge: Model, pictures: list[Path]
) -> None:
    good = "Final Score: 3\nAlignment Score: 3\nCoherence Score: 3\nStyle Score: 3" if template else '{"score": 50}'
    judge.reply = lambda prompt, _: reply if prompt == "a dog" else says(good)
    scorer = load_scorer(name(judge, template))
    with pytest.raises(ImageError, check=at(str(pictures[1]), found=found)) as caught:
        scorer.score(pictures[:2], ["a cat", "a dog"])
    assert "\n" not in str(caught.value)
    assert judge.asked["a dog"] == 1, "the same answer would be given again"


# --- files, groups, folders


def test_rows_without_a_score_say_why_and_the_others_have_theirs(
    judge: Model, pictures: list[Path], tmp_path: Path
) -> None:
    judge.reply = lambda prompt, _: says("", refusal="no") if "dog" in prompt else says({"score": 50})
    table = items(tmp_path / "items.jsonl", pictures, "a cat", "a dog", "a bird")
    scorer = load_scorer(name(judge))
    with pytest.raises(RecordError, check=at("row 2", found="refusal: no", cure="--on-error skip")):
        run(ScoreFile(items=table, out=tmp_path / "scores.jsonl"), lambda: scorer)
    summary = run(ScoreFile(items=table, out=tmp_path / "scores.jsonl", on_error="skip"), lambda: scorer)
    assert (summary.rows, summary.skipped, summary.resumed) == (3, 1, 2)
    assert judge.asked == {"a cat": 1, "a dog": 2, "a bird": 1}, "a score is asked for once, no score again"
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["score"] for row in rows] == [50, None, 50]
    assert "refusal: no" in rows[1]["error"]
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_stopped_run_goes_on_where_it_was(judge: Model, pictures: list[Path], tmp_path: Path) -> None:
    prompts = [f"a cat number {n}" for n in range(12)]
    table, out = items(tmp_path / "items.jsonl", pictures, *prompts), tmp_path / "scores.jsonl"
    scorer = load_scorer(name(judge), batch_size=2)
    judge.reply = lambda prompt, _: refuses(401) if prompt.endswith(" 9") else says({"score": 50})
    with pytest.raises(InputError, check=at(judge.url, found="refuses the key (401)", cure="HPSKIT_JUDGE_KEY")):
        run(ScoreFile(items=table, out=out), lambda: scorer)
    judge.reply = lambda *_: says({"score": 50})
    assert run(ScoreFile(items=table, out=out), lambda: scorer).resumed == 8
    assert max(judge.asked.values()) == 2
    assert judge.asked.total() == 14, "the one that failed, and the other of its batch"


def test_evaluated_beside_others_each_image_is_asked_about_once(
    judge: Model, pictures: list[Path], tmp_path: Path
) -> None:
    rows = [
        {"prompt": prompt, "file_path": [one.name, two.name], "human_preference": [1, 0]}
        for prompt, one, two in (("a cat", *pictures[:2]), ("a dog", *pictures[2:]), ("a bird", *pictures[1:3]))
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    judge.reply = lambda prompt, _: says("so so") if prompt == "a dog" else says({"score": 50})
    candidate = Candidate(label="judge", scorer=load_scorer(name(judge)))
    config: dict[str, Any] = {"data": tmp_path / "train.json", "out": tmp_path / "out", "resamples": 100}
    with pytest.raises(RecordError, check=at("entry 2", found="invalid: so so")):
        evaluate(Evaluation(**config), lambda: [candidate])
    result = evaluate(Evaluation(**config, on_error="skip"), lambda: [candidate]).result
    assert (result["data"]["groups"], len(result["data"]["skipped"])) == (2, 1)
    assert result["scorers"][0]["accuracy"]["imagereward"]["value"] == 0, "equal scores are no preference"
    assert (judge.asked["a cat"], judge.asked["a bird"]) == (2, 2)


def test_by_the_commands(judge: Model, pictures: list[Path], tmp_path: Path, cli: Cli) -> None:
    environment = {"HPSKIT_JUDGE_KEY": KEY}
    done = cli("score", "--model", name(judge), "a cat", *pictures[:2], **environment)
    assert done.returncode == 0, done.stderr
    assert "preferred" not in done.stdout
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for n in range(3):
            shutil.copy(pictures[n], tmp_path / folder / f"{n}.png")
    (tmp_path / "prompts.json").write_text(json.dumps(["a cat", "a dog", "a bird"]))
    options = ("--prompts", tmp_path / "prompts.json", "--scorer", name(judge), "--out", tmp_path / "compared")
    done = cli("compare", tmp_path / "one", tmp_path / "two", *options, **environment)
    assert done.returncode == 0, done.stderr
    dead = cli("score", "--model", "judge:http://127.0.0.1:9/v1/m", "--arch", "ViT-B-32", "a cat", pictures[0])
    assert dead.returncode == 2
    assert "are not for a judge" in dead.stderr


# --- servers


@pytest.mark.parametrize("reply", [refuses(429), refuses(500), refuses(503), refuses(408)])
def test_what_may_pass_is_tried_again(reply: Reply, judge: Model, pictures: list[Path]) -> None:
    judge.reply = lambda _, before: reply if before < 3 else says({"score": 50})
    assert load_scorer(name(judge)).score(pictures[0], "a cat").tolist() == [50]
    judge.reply = lambda *_: reply
    with pytest.raises(InputError, check=at(judge.url, found="answers", cure="later")):
        load_scorer(name(judge)).score(pictures[0], "a dog")
    assert judge.asked["a dog"] == 6


def test_nothing_goes_anywhere_else(judge: Model, pictures: list[Path]) -> None:
    with serve(lambda *_: says({"score": 50})) as other:
        judge.reply = lambda *_: (307, {"Location": f"{other.url}/chat/completions"}, {})
        with pytest.raises(InputError, check=at(judge.url, found="answers 307")):
            load_scorer(name(judge)).score(pictures[0], "a cat")
        assert not other.asked


def test_a_server_without_schemas_and_a_model_without_sense_are_told_from_bad_rows(
    judge: Model, pictures: list[Path]
) -> None:
    judge.reply = lambda *_: refuses(400, "response_format is not supported")
    with pytest.raises(ImageError, check=at(str(pictures[0]), found="rejected: ", cure="#rate-plain")):
        load_scorer(name(judge)).score(pictures[0], "a cat")
    judge.reply = lambda *_: refuses(404, "model_not_found")
    with pytest.raises(InputError, check=at(judge.url, found="answers 404", cure="check model")):
        load_scorer(name(judge)).score(pictures[0], "a cat")
    judge.reply = lambda *_: says("Nice.")
    with pytest.raises(InputError, check=at(judge.url, found="10 times in a row")):
        load_scorer(name(judge), batch_size=16).score(pictures[:1] * 12, [f"cat {n}" for n in range(12)])


def test_nobody_there(judge: Model, pictures: list[Path]) -> None:
    with pytest.raises(InputError, check=at("http://127.0.0.1:9/v1", found="cannot be reached")):
        load_scorer("judge:http://127.0.0.1:9/v1/m").score(pictures[0], "a cat")


def test_in_a_notebook_which_has_a_loop_of_its_own(judge: Model, pictures: list[Path]) -> None:
    async def cell() -> list[float]:
        scores: list[float] = load_scorer(name(judge)).score(pictures[0], "a cat").tolist()
        return scores

    assert asyncio.run(cell()) == [5]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("judge:", {"expected": "judge:http(s)://HOST/v1/MODEL"}),
        ("judge:Qwen3-VL-8B", {"expected": "judge:http(s)://HOST/v1/MODEL"}),
        ("judge:http://127.0.0.1:8000/v1/m#mine", {"expected": "rate, rate-plain, unified-reward"}),
        ("judge:ftp://127.0.0.1/v1/m", {"expected": "judge:http(s)://HOST/v1/MODEL"}),
        ("judge:http://me:secret@127.0.0.1/v1/m", {"expected": "without a password"}),
        ("judge:http://127.0.0.1:99999/v1/m", {"expected": "http(s)://HOST/PATH"}),
    ],
)
def test_names_that_are_not_right(text: str, fields: dict[str, str]) -> None:
    with pytest.raises((UnknownModelError, InputError), check=at(**fields)) as caught:
        load_scorer(text)
    assert isinstance(caught.value, HpskitError)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "base", "model"),
    [
        ("judge:http://h:8000/v1/m", "http://h:8000/v1", "m"),
        ("judge:https://h/api/v1/OWNER/m", "https://h/api/v1", "OWNER/m"),
        ("judge:https://h/v1beta/openai/m", "https://h/v1beta/openai", "m"),
    ],
)
def test_endpoint_and_model(text: str, base: str, model: str) -> None:
    from hpskit.scoring.judge import Judge

    settings = Judge(text)._chat.settings
    assert (settings.base_url, settings.model) == (base, model)
