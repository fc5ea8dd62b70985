"""The scorer's promises, on a tiny CLIP; tests/known has its parity with the official code."""

from __future__ import annotations

import math
import pickle
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import hpskit
from conftest import TINY
from error_fields import at
from hpskit.errors import ImageError, InputError, ModelError
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import NetworkScorer, PlainScorer, load_scorer
from hpskit.scoring.streaming import stream
from small_inputs import Brightness

PROMPTS = ["a temple", "a flower in the sun", "a temple", "snow", "a flower", "a very old temple by a lake at night"]


PIXELS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def scorer(tiny_checkpoint: Path) -> NetworkScorer:
    return load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu", batch_size=3)


@pytest.fixture(scope="module")
def pictures(photographs: list[Image.Image]) -> list[Image.Image]:
    boxes = [(0, 0, 300, 200), (100, 50, 400, 427), (200, 0, 640, 100)]
    return [photograph.crop(box) for photograph in photographs for box in boxes]


def test_a_training_around_it_changes_nothing(tiny_checkpoint: Path, pictures: list[Image.Image]) -> None:
    """Neither its autocast, also not afterwards by prompts that were encoded in it, nor its default type."""
    alone, inside = (load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu") for _ in range(2))
    expected, kept = alone.score(pictures, PROMPTS), PIXELS.clone().requires_grad_()
    gradient = alone.score(kept, PROMPTS[:2], grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(inside.score(pictures, PROMPTS), expected)
        assert torch.equal(inside.score(kept, PROMPTS[:2], grad=True), gradient)
    torch.set_default_dtype(torch.float64)
    try:
        found = inside.score(pictures, PROMPTS)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_score_is_a_hundred_times_the_cosine(scorer: NetworkScorer, pictures: list[Image.Image]) -> None:
    """Against the plain use of open_clip: no cut of the padding, no batching, no cache."""
    torch.manual_seed(0)
    model = open_clip.create_model(TINY, load_weights=False).eval()  # the seed that conftest saved
    tokens = open_clip.get_tokenizer(TINY)(PROMPTS)
    pixels = torch.stack([scorer._network.preprocessing(to_float(picture)) for picture in pictures])
    with torch.inference_mode():
        cosines = (model.encode_image(pixels, normalize=True) * model.encode_text(tokens, normalize=True)).sum(dim=-1)
    scores = scorer.score(pictures, PROMPTS)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, 100 * cosines, atol=1e-4)
    assert scores.std() > 1  # the comparison means something


def to_float(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def test_alone_in_any_batch_in_any_order(
    tiny_checkpoint: Path, scorer: NetworkScorer, pictures: list[Image.Image]
) -> None:
    """Within 1e-6 of the cosine, which is 1e-4 of a point."""
    together = scorer.score(pictures, PROMPTS)
    alone = torch.cat([scorer.score(picture, prompt) for picture, prompt in zip(pictures, PROMPTS, strict=True)])
    assert (together - alone).abs().max() <= 1e-4
    for batch_size in (1, 2, 5, 64):
        other = load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu", batch_size=batch_size)
        assert (other.score(pictures, PROMPTS) - together).abs().max() <= 1e-4
        assert (other.score(pictures[::-1], PROMPTS[::-1]).flip(0) - together).abs().max() <= 1e-4


def test_all_routes_agree(scorer: NetworkScorer, photograph_files: list[Path], pictures: list[Image.Image]) -> None:
    opened = [Image.open(path) for path in photograph_files]
    by_path = scorer.score(photograph_files, "a temple")
    assert torch.equal(by_path, scorer.score([str(path) for path in photograph_files], "a temple"))
    assert torch.equal(by_path, scorer.score(opened, ["a temple", "a temple"]))
    assert torch.equal(by_path, scorer.score([to_float(image) for image in opened], "a temple"))
    stacked = torch.stack([to_float(image) for image in opened])
    assert (scorer.score(stacked, "a temple") - by_path).abs().max() <= 1e-4
    assert (scorer.score(stacked, "a temple", grad=True) - by_path).abs().max() <= 1e-4


def test_arrays_columns_and_the_call_agree(
    scorer: NetworkScorer, photographs: list[Image.Image], tiny_checkpoint: Path
) -> None:
    """What RL code, torchmetrics, imscore and tables hand over."""
    same = [photograph.resize((90, 70)) for photograph in photographs]
    expected = scorer.score(same, PROMPTS[:2])
    bytes_ = np.stack([np.array(image) for image in same])
    tensor = torch.from_numpy(bytes_).permute(0, 3, 1, 2)
    for images, options in (
        (bytes_, {}),
        (tensor, {}),
        (tensor / 255, {}),
        ((bytes_ / 127.5 - 1).astype(np.float32), {"value_range": (-1, 1)}),
        ([bytes_[0], tensor[1] / 255], {}),
        (np.array([*map(str, range(2))], dtype=object), None),
        ((image for image in same), {}),
    ):
        if options is None:  # a column of objects, as pandas holds it
            images[:] = same
        found = scorer(images, np.array(PROMPTS[:2]), **(options or {}))
        assert (found - expected).abs().max() <= 1e-3
    pixels = (tensor / 127.5 - 1).requires_grad_(True)
    scorer(pixels, PROMPTS[:2], value_range=(-1, 1), grad=True).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    plain = PlainScorer(Brightness(), Brightness().info)
    assert plain(tensor[:, :, :, :3], "x", layout="NCHW").shape == (2,)


class Table:
    """As much of a pandas DataFrame as there is to be refused."""

    ndim = 2

    def __iter__(self) -> Iterator[str]:
        return iter(["image", "prompt"])


def test_a_ranking_is_a_list_with_two_faces(scorer: NetworkScorer, photograph_files: list[Path]) -> None:
    with Image.open(photograph_files[0]) as image:
        ranking = scorer.rank("a <script>temple</script> {0}", [*photograph_files, np.array(image)])
    assert isinstance(ranking, list)
    first = ranking[0]
    lines = repr(ranking).splitlines()
    assert lines[0].split() == ["rank", "score", "preferred", "image"]
    assert [line.split()[-1] for line in lines[1:]] == [line.image for line in ranking]
    html = ranking._repr_html_()
    assert html.count("<img src='data:image/jpeg;base64,") == 3
    assert "<script>" not in html
    assert "{0}" in html
    assert html.index(first.image) < html.index(ranking[1].image)
    assert pickle.loads(pickle.dumps(ranking))._repr_html_() == html
    ranking.reverse()
    assert "images[2]" in ranking._repr_html_()
    photograph_files[0].rename(moved := photograph_files[0].with_name("moved.jpg"))
    try:
        assert ranking._repr_html_().count("<em>cannot be opened") == 1
    finally:
        moved.rename(photograph_files[0])


def test_a_notebook_gets_a_bar_and_two_lines_of_an_error(
    scorer: NetworkScorer, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPython, which the tests do not install, is what it is asked for and what it asks."""
    drawn: list[dict[str, str]] = []
    handle = SimpleNamespace(update=lambda content, raw: drawn.append(content))

    def display(content: dict[str, str], **_: object) -> SimpleNamespace:
        drawn.append(content)
        return handle

    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    scorer.score(pictures, "a temple", progress=True)
    assert drawn[0]["text/plain"].startswith("scoring: 0 of 6")
    assert drawn[-1]["text/html"].startswith("<progress value='6' max='6'></progress> scoring: 6 of 6")
    with pytest.raises(ImageError) as caught:
        scorer.score("nope.png", "a temple")
    *places, sentence = caught.value._render_traceback_()
    assert len(places) == 1
    assert places[0].endswith('scorer.score("nope.png", "a temple")')
    assert sentence.startswith("ImageError: nope.png: cannot be opened")


def test_gradients_are_right_and_only_when_asked(scorer: NetworkScorer) -> None:
    torch.manual_seed(1)
    pixels = torch.rand(2, 3, 80, 60, requires_grad=True)
    assert not scorer.score(pixels, "a temple").requires_grad
    direction = torch.randn_like(pixels)
    direction /= direction.norm()
    step = 0.05
    with torch.no_grad():
        inside = pixels * 0.8 + 0.1  # leave room to step within [0, 1]
    inside.requires_grad_(True)
    score = scorer.score(inside, ["a temple", "snow"], grad=True)
    (gradient,) = torch.autograd.grad(score.sum(), inside)
    ahead = scorer.score(inside + step * direction, ["a temple", "snow"]).double().sum()
    behind = scorer.score(inside - step * direction, ["a temple", "snow"]).double().sum()
    slope = float((gradient * direction).sum())
    assert float(ahead - behind) / (2 * step) == pytest.approx(slope, rel=0.05, abs=2e-3)
    assert all(parameter.grad is None for parameter in scorer._network._model.parameters())  # type: ignore[attr-defined]


def test_a_scored_tensor_can_be_used_for_training(scorer: NetworkScorer) -> None:
    """Scores made without a gradient may still meet one: they are no inference tensors."""
    reward = scorer.score(torch.rand(2, 3, 64, 64), "a temple")
    weight = torch.ones(2, requires_grad=True)
    (weight * reward).sum().backward()
    assert torch.equal(weight.grad, reward)  # type: ignore[arg-type]


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 0.5), ("fp16", 0.06)])
def test_low_precision_is_close_and_does_not_depend_on_the_neighbours(
    tiny_checkpoint: Path, scorer: NetworkScorer, pictures: list[Image.Image], precision: str, bound: float
) -> None:
    """A long prompt beside a short one would pad it; on a CPU there is no padding, and each attends to itself alone."""
    low = load_scorer(tiny_checkpoint, arch=TINY, precision=precision, device="cpu")
    assert low.info.precision == precision
    assert low.info.identity != scorer.info.identity
    scores = low.score(pictures, PROMPTS)
    assert scores.dtype == torch.float32
    assert 0 < (scores - scorer.score(pictures, PROMPTS)).abs().max() <= bound  # other arithmetic, within the bound
    again = load_scorer(tiny_checkpoint, arch=TINY, precision=precision, device="cpu")
    company = again.score(PIXELS[:1].repeat(2, 1, 1, 1), ["a cat", "a very long story about a cat and a dog " * 4])
    assert (low.score(PIXELS[:1], "a cat") - company[:1]).abs().max() <= 1e-4
    if precision == "bf16":
        with pytest.raises(InputError, check=at("grad", cure="fp32")):
            low.score(PIXELS, "x", grad=True)


def test_images_and_prompts_in_the_wrong_order_are_told(scorer: NetworkScorer, pictures: list[Image.Image]) -> None:
    for wrong in (lambda: scorer.score("a cat", pictures), lambda: scorer.rank(pictures, "a cat")):  # type: ignore[arg-type]
        with pytest.raises(InputError, check=at(cure="images come first in score, the prompt in rank")):
            wrong()


def test_rank_and_win_probability(scorer: NetworkScorer, pictures: list[Image.Image]) -> None:
    ranking = scorer.rank("a temple", [*pictures, pictures[0]])
    scores = [line.score for line in ranking]
    assert scores == sorted(scores, reverse=True)
    assert sum(line.probability for line in ranking) == pytest.approx(1)
    by_name = {line.image: line for line in ranking}
    # the same picture twice; some processors round by the place in a batch
    assert by_name["images[0]"].score == pytest.approx(by_name["images[6]"].score, abs=1e-4)
    first, second = ranking[0], ranking[-1]
    factor = scorer.log_odds_per_point
    assert factor == pytest.approx(1 / 0.07 / 100), "CLIP starts with a logit scale of 1 / 0.07, of 100 in HPS v2"
    assert math.log(first.probability / second.probability) == pytest.approx(factor * (first.score - second.score))
    a, b = pictures[0], pictures[1]
    p = scorer.win_probability("a temple", a, b)
    difference = scorer.score([a, b], "a temple").double()
    assert p == pytest.approx(1 / (1 + math.exp(-factor * (difference[0] - difference[1]))))
    assert scorer.win_probability("a temple", b, a) == pytest.approx(1 - p, abs=1e-6)


def test_several_threads_may_share_a_scorer(scorer: NetworkScorer, pictures: list[Image.Image]) -> None:
    expected = scorer.score(pictures, PROMPTS)
    results: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        results[number] = scorer.score(pictures, PROMPTS)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all((result - expected).abs().max() <= 1e-4 for result in results.values())


def test_one_lazily_opened_image_many_times(scorer: NetworkScorer, photograph_files: list[Path]) -> None:
    """Pillow decodes at first use, and is not safe against several threads doing that at once."""
    for _ in range(5):
        with Image.open(photograph_files[0]) as lazy:
            scores = scorer.score([lazy] * 12, "a temple")
        assert (scores - scores[0]).abs().max() <= 1e-4


def test_nothing_to_score_is_nothing(scorer: NetworkScorer) -> None:
    assert scorer.score([], []).shape == (0,)
    assert scorer.score(torch.zeros(0, 3, 8, 8), []).shape == (0,)


def test_one_path_alone_and_paths_as_labels(scorer: NetworkScorer, photograph_files: list[Path]) -> None:
    both = scorer.score(photograph_files, "a temple")
    for path, score in zip(photograph_files, both.tolist(), strict=True):
        assert scorer.score(path, "a temple").tolist() == scorer.score(str(path), "a temple").tolist()
        assert scorer.score(path, "a temple").tolist() == pytest.approx([score], abs=1e-4)
    assert {line.image for line in scorer.rank("a temple", photograph_files)} == {str(p) for p in photograph_files}
    for missing in (photograph_files[0].with_name("none.png"), str(photograph_files[0].with_name("none.png"))):
        with pytest.raises(ImageError) as caught:
            scorer.score([photograph_files[0], missing], "a temple")
        assert str(caught.value).startswith(f"{missing}: ")


def test_progress_counts_the_images(scorer: NetworkScorer, pictures: list[Image.Image]) -> None:
    told: list[int] = []
    scorer.score(pictures[:5], "x", progress=told.append)
    assert told == [3, 5]
    scorer.rank("x", pictures[:2], progress=told.append)
    assert told == [3, 5, 2]


@pytest.mark.parametrize(
    ("images", "prompts", "where"),
    [
        (PIXELS[:1], ["a", "b"], at("prompts", found="2 for 1 images")),
        (PIXELS, ["a", "  "], at("prompts[1]", found="is empty")),
        (PIXELS[:1], [3], at("prompts[0]", found="int")),
        (PIXELS, None, at("prompts", found="NoneType")),
        (PIXELS, Table(), at("prompts", found="Table", cure="one column")),
        (Table(), "a", at("images", found="Table", cure="one column")),
        (PIXELS, {"a", "b"}, at("prompts", found="set", cure="a list")),
        (PIXELS * 1.1 - 0.02, "a", at("image tensor", found="values from", cure="images.clamp(0, 1)")),
        ([PIXELS[0], PIXELS[1] * 1.1], "a", at("images[1]: image tensor", cure="images.clamp(0, 1)")),
        (PIXELS, "a \ud83d", at("prompts", found="not Unicode")),
        ([PIXELS[0], Path("nope.png")], "a", at("nope.png")),
        ([PIXELS[0], Image.new("F", (2, 2))], "a", at("images[1]", found="'F'")),
    ],
)
def test_bad_input_is_named(scorer: NetworkScorer, images: Any, prompts: Any, where: Any) -> None:
    with pytest.raises(InputError, check=where):
        scorer.score(images, prompts)


def test_what_cannot_be_is_named(tiny_checkpoint: Path, scorer: NetworkScorer, photograph_files: list[Path]) -> None:
    with pytest.raises(InputError, check=at("images", expected="(N, 3, H, W)")):
        scorer.score(photograph_files, "a", grad=True)
    with pytest.raises(InputError, check=at("prompts[1]", found="is empty")):
        scorer.score(photograph_files[:2], ["a", " "])


def test_what_a_stream_cannot_use_comes_out_in_its_place(
    scorer: NetworkScorer, pictures: list[Image.Image], tmp_path: Path
) -> None:
    mixed = [pictures[0], tmp_path / "nope.png", pictures[1], tmp_path, pictures[2]]
    outcomes = [outcome for batch in stream([scorer], mixed, ["a"] * 5) for outcome in batch]
    assert [isinstance(outcome, ImageError) for outcome in outcomes] == [False, True, False, True, False]
    usable = [outcome[0] for outcome in outcomes if isinstance(outcome, list)]
    assert usable == pytest.approx(scorer.score(pictures[:3], "a").tolist(), abs=1e-4)


def test_a_prompt_beyond_the_context_warns(scorer: NetworkScorer, pictures: list[Image.Image]) -> None:
    with pytest.warns(UserWarning, match="prompt has 102 tokens, the model reads the first 77"):
        scorer.score(pictures[0], "word " * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer.score(pictures[0], "word " * 75)  # fills the context exactly


def test_a_score_that_is_not_a_number_is_an_error(
    tiny_checkpoint: Path, tmp_path: Path, photographs: list[Image.Image]
) -> None:
    state = torch.load(tiny_checkpoint, weights_only=True)["state_dict"]
    state["visual.ln_post.weight"].fill_(3e38)  # a number, but no product of it is
    torch.save({"state_dict": state}, tmp_path / "huge.pt")
    broken = load_scorer(tmp_path / "huge.pt", arch=TINY, precision="fp32", device="cpu")
    for images in (photographs, torch.rand(2, 3, 64, 64)):
        with pytest.raises(ModelError, check=at("huge", found="fp32", cure="verify")):
            broken.score(images, "a temple")


def test_antialias_is_part_of_the_identity(tiny_checkpoint: Path, pictures: list[Image.Image]) -> None:
    then = load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", antialias=False)
    now = load_scorer(tiny_checkpoint, arch=TINY, precision="fp32")
    assert isinstance(now, Scorer)
    assert (now.info.version, now.info.architecture) == ("local", TINY)
    assert now.info.package == f"hpskit {hpskit.__version__}"
    assert "no_antialias" in then.info.identity
    assert then.info.identity != now.info.identity
    assert (then.score(pictures, "a") - now.score(pictures, "a")).abs().max() > 0.01
