"""Two sets of images compared: figures, verdicts, files, and the cases where the truth is known."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from error_fields import at
from hpskit.benchmark.compare import Compare, run
from hpskit.benchmark.compare_figures import agreement_of, compared
from hpskit.benchmark.compare_page import compare_sheet, effect_axis, histogram
from hpskit.benchmark.result import Resampling
from hpskit.errors import InputError, OutputError
from hpskit.pages.charts import interval_axis
from hpskit.scoring.contract import Candidate
from hpskit.scoring.scorer import load_scorer
from small_inputs import Sharpness

FEW = Resampling(resamples=200)
NAMES = ("A", "B")
MINUS = "\N{MINUS SIGN}"
PROMPTS = 12


@pytest.fixture(scope="session")
def folders(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`prompts.jsonl` with two categories, and tiles of photographs: as they are, copied, and blurred by one pixel."""
    root = tmp_path_factory.mktemp("compare")
    lines = []
    for number in range(PROMPTS):
        category = ("temple", "flower")[number % 2]
        lines.append({"category": category, "prompt": f"part {number} of a {category}"})
        left, top = 40 * number, 20 * (number // 2)
        tile = photographs[number % 2].crop((left, top, left + 192, top + 192))
        for name, image in (("sharp", tile), ("blurred", tile.filter(ImageFilter.GaussianBlur(1)))):
            path = root / name / category / f"{number // 2:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    (root / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copytree(root / "sharp", root / "copy")
    return root


@pytest.fixture
def config(folders: Path, tmp_path: Path) -> Compare:
    return Compare(
        first=folders / "sharp",
        second=folders / "blurred",
        prompts=folders / "prompts.jsonl",
        out=tmp_path / "out",
        resampling=FEW,
    )


def sharpness(**options: Any) -> Candidate:
    scorer = Sharpness(**options)
    return Candidate(label=scorer.name, scorer=scorer)


# Where the truth is known


def test_blurred_copies_lose_by_mini(config: Compare) -> None:
    result = run(config, lambda: [Candidate(label="mini", scorer=load_scorer("mini"))]).result
    (scorer,) = result["scorers"]
    difference = scorer["difference"]
    assert scorer["outcome"] == "worse"
    assert (difference["wins"], difference["losses"]) == (0, PROMPTS)
    assert difference["permutation_p"] == difference["sign_p"] == 2 / 2**PROMPTS
    assert difference["high"] < -0.2
    assert [row["name"] for row in scorer["categories"]] == ["temple", "flower"]
    assert all(row["difference"]["value"] < 0 and row["holm_p"] == 2 * 2 / 2**6 for row in scorer["categories"])
    assert re.fullmatch(
        rf"blurred is worse: {MINUS}\d\.\d\d points \({MINUS}\d\.\d\d to {MINUS}\d\.\d\d\), p < 0\.001; "
        "it wins 0 % of the 12 prompts",
        result["verdict"],
    )


def test_a_copy_of_the_same_images_is_no_different(config: Compare, folders: Path) -> None:
    candidate = sharpness()
    result = run(replace(config, second=folders / "copy"), lambda: [candidate]).result
    difference = result["scorers"][0]["difference"]
    assert [difference[name] for name in ("value", "low", "high", "detectable")] == [0, 0, 0, 0]
    assert (difference["sign_p"], difference["permutation_p"], difference["win_rate"]) == (1, 1, 0.5)
    assert result["scorers"][0]["outcome"] == "equal"
    assert result["verdict"] == "No difference: sharp and copy have the same score for each of the 12 prompts"
    assert result["notes"] == ["sharp and copy have the same files, to the byte, for all prompts."]
    assert len(candidate.scorer.seen) == PROMPTS, "a copy is not scored again"
    assert (config.out / "contact.jpg").stat().st_size > 10_000


@pytest.mark.parametrize("runs", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_chance_seldom_decides_and_a_detectable_difference_is_found(runs: int) -> None:
    """5 % false verdicts, 80 % power; prompts that stand four times would decide one in five if each counted."""
    rng = np.random.default_rng(0)
    detectable = 2.8016 / np.sqrt(50)  # (z(0.975) + z(0.8)) deviation / sqrt(prompts)
    wrong, repeated, found = [], [], []
    for _ in range(runs):
        prompts = rng.normal(0, 2, 30)
        one, other = prompts + rng.normal(0, 1, (2, 30))
        wrong.append(compared(one, other, np.full(30, ""), NAMES, FEW)["outcome"] != "undecided")
        second = np.repeat(rng.normal(size=40), 4) + rng.normal(0, 0.3, 160)
        texts = np.repeat(np.arange(40), 4)
        repeated.append(compared(np.zeros(160), second, np.full(160, ""), NAMES, FEW, texts)["outcome"] != "undecided")
        drawn = rng.normal(detectable, 1, 50)
        found.append(compared(np.zeros(50), drawn, np.full(50, ""), NAMES, FEW)["outcome"])
    assert np.mean(wrong) < 0.1
    assert np.mean(repeated) < 0.13
    assert 0.65 < np.mean([outcome == "better" for outcome in found]) < 0.95
    assert "worse" not in found


# Figures and words


def test_figures_by_hand() -> None:
    first = np.array([0.0, 1, 2, 3, np.nan, 5])
    second = np.array([1.0, 3, 2, 2.5, 7, np.nan])
    found = compared(first, second, np.array(list("xxyyyy")), NAMES, FEW)
    difference = found["difference"]
    assert (difference["value"], difference["prompts"]) == (0.625, 4)
    assert [difference[name] for name in ("wins", "ties", "losses")] == [2, 1, 1]
    assert (found["first"]["value"], found["second"]["value"]) == (1.5, 2.125)
    assert [(row["name"], row["prompts"], row["difference"]["value"]) for row in found["categories"]] == [
        ("x", 2, 1.5),
        ("y", 2, -0.25),
    ]
    assert [case["prompt"] for case in found["extremes"]["for_second"]] == [1, 0]
    assert found["extremes"]["for_first"] == [{"prompt": 3, "difference": -0.5}]
    assert found["verdict"].startswith("Not decided: B differs by +0.62 points (")
    assert found["verdict"].endswith("; with 4 prompts no test can decide, whatever the scores; use 6 or more")


def test_categories_of_one_prompt_and_repeated_prompts() -> None:
    found = compared(np.zeros(4), np.array([1.0, 2, 3, 4]), np.array(list("xxxy")), NAMES, FEW)
    assert found["categories"][1] == {"name": "y", "prompts": 1, "difference": None, "holm_p": None}
    assert found["categories"][0]["holm_p"] == found["categories"][0]["difference"]["permutation_p"]
    second, texts = np.arange(160.0), np.repeat(np.arange(40), 4)
    found = compared(np.zeros(160), second, np.tile(list("abcd"), 40), NAMES, FEW, texts)
    assert (found["difference"]["prompts"], found["difference"]["value"]) == (40, second.mean())
    assert [row["prompts"] for row in found["categories"]] == [40] * 4


def test_what_is_not_decided_says_what_would_have_been_seen() -> None:
    noise = np.random.default_rng(5).normal(0, 1, 40)
    found = compared(np.zeros(40), noise - noise.mean() + 0.1, np.full(40, ""), NAMES, FEW)
    seen = found["difference"]["detectable"]
    assert found["outcome"] == "undecided"
    assert found["verdict"].endswith(f"; with 40 prompts a difference below {seen:.2f} cannot be relied on to show")


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.integers(-40, 40)] * 2), min_size=2, max_size=12), st.integers(-100, 100))
def test_turned_round_the_answer_turns_round(pairs: list[tuple[int, int]], shift: int) -> None:
    first, second = np.array(pairs, dtype=float).T / 4
    categories = np.full(len(first), "")
    there = compared(first, second, categories, NAMES, Resampling(resamples=100))
    back = compared(second + shift, first + shift, categories, NAMES, Resampling(resamples=100))
    turned = {"better": "worse", "worse": "better"}
    assert there["difference"]["value"] == pytest.approx(-back["difference"]["value"])
    assert there["difference"]["permutation_p"] == back["difference"]["permutation_p"]
    for one, other in ((there, back), (back, there)):
        if one["outcome"] in turned:
            assert other["outcome"] in (turned[one["outcome"]], "undecided")  # ends of two bootstraps differ a little
        assert one["extremes"]["for_second"] == [
            {**case, "difference": -case["difference"]} for case in other["extremes"]["for_first"]
        ]
        histogram = one["histogram"]
        assert sum(histogram["counts"]) + histogram["zero"] == len(pairs)
        assert not any(low < 0 < high for low, high in itertools.pairwise(histogram["edges"]))
    assert (there["outcome"] == "equal") == (back["outcome"] == "equal") == bool((first == second).all())


def said_by(label: str, outcome: str, p_value: float) -> dict[str, Any]:
    return {"label": label, "outcome": outcome, "difference": {"permutation_p": p_value}}


CORRECTED = "corrected for {} scorers (Holm) it is not decided by"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([("better", 0.01), ("better", 0.02)], "Both scorers say: B is better"),
        ([("equal", 1), ("equal", 1), ("equal", 1)], "All 3 scorers say: there is no difference"),
        (
            [("better", 0.001), ("undecided", 0.3), ("better", 0.01)],
            "The scorers differ: B is better by s0, s2; it is not decided by s1",
        ),
        (
            [("better", 0.001), ("worse", 0.01)],
            "The scorers contradict one another: B is better by s0; B is worse by s1",
        ),
        ([("better", 0.03), ("better", 0.04)], f"Both scorers say: B is better; {CORRECTED.format(2)} s0, s1"),
        (
            [("worse", 0.01), ("undecided", 0.3), ("worse", 0.04)],
            f"The scorers differ: B is worse by s0, s2; it is not decided by s1; {CORRECTED.format(3)} s2",
        ),
    ],
)
def test_scorers_agree_or_not(said: list[tuple[str, float]], sentence: str) -> None:
    outcomes = [said_by(f"s{number}", *one) for number, one in enumerate(said)]
    differences = [np.array([1.0, 2, 3, np.nan]) * (number + 1) for number in range(len(outcomes))]
    found = agreement_of(outcomes, differences, "B")
    assert found is not None
    assert found["sentence"] == sentence
    assert [row["spearman"] for row in found["correlations"]] == [1.0] * (len(outcomes) * (len(outcomes) - 1) // 2)


# Files


def test_everything_is_published_and_says_the_same(config: Compare) -> None:
    scorers = [sharpness(), sharpness(name="dull", sign=-1.0)]
    summary = run(config, lambda: scorers)
    result = json.loads((config.out / "compare.json").read_text())
    assert result == json.loads(json.dumps(summary.result))
    names = ["compare.html", "compare.json", "contact.jpg", "scores.ledger"]
    assert sorted(path.name for path in config.out.iterdir()) == names
    assert [scorer["outcome"] for scorer in result["scorers"]] == ["worse", "better"]
    assert result["agreement"]["sentence"].startswith("The scorers contradict one another: blurred is worse by sharp")
    assert result["agreement"]["correlations"][0]["spearman"] == -1
    p_value = result["scorers"][0]["difference"]["permutation_p"]
    assert result["agreement"]["holm_p"] == {"sharp": 2 * p_value, "dull": 2 * p_value}
    assert '<th scope="col" class="num">Holm</th>' in (config.out / "compare.html").read_text()
    own = [row["second"][0]["scores"]["sharp"] - row["first"][0]["scores"]["sharp"] for row in result["prompts"]]
    assert result["scorers"][0]["difference"]["value"] == pytest.approx(np.mean(own))
    assert result["prompts"][3]["first"][0]["image"] == "flower/00001.png"
    assert Path(config.out / result["first"]["root"]).resolve() == config.first.resolve()
    with Image.open(config.out / "contact.jpg") as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (1920, 1080))


def test_files_for_papers(config: Compare) -> None:
    config = replace(config, resampling=Resampling(resamples=200, level=0.5), paper=("md", "csv,svg"))
    scorers = [sharpness(), *(Candidate(label=f"r{n}", scorer=load_scorer(f"random:{n}")) for n in range(8))]
    result = run(config, lambda: scorers).result
    tables = (config.out / "compare.md").read_text().split("\n**blurred less sharp on ")[-len(scorers) :]
    bold = {label: "**" in next(line for line in table.splitlines() if line.startswith("| all |"))
            for label, table in zip([scorer.label for scorer in scorers], tables, strict=True)}  # fmt: skip
    decided = {scorer["label"]: scorer["outcome"] in ("better", "worse") for scorer in result["scorers"]}
    assert bold == decided
    assert {*decided.values()} == {True, False}
    with (config.out / "compare.csv").open(encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [row["category"] for row in table] == ["all", "temple", "flower"] * len(scorers)
    own = result["scorers"][0]["difference"]
    assert [float(table[0][key]) for key in ("difference", "difference_low", "wins", "p", "sign_p", "detectable")] == [
        own[key] for key in ("value", "low", "win_rate", "permutation_p", "sign_p", "detectable")
    ]
    assert "50 % intervals over prompts." in (config.out / "compare.svg").read_text()
    (config.out / "compare.tex").write_text("mine")
    with pytest.raises(OutputError, check=at(config.out / "compare.tex", found="not made by this command")):
        run(replace(config, paper=("latex",)), lambda: pytest.fail("loaded"))


def test_the_page_is_one_file(config: Compare) -> None:
    run(replace(config, names=("<b>old</b>", "new & better")), lambda: [sharpness()])
    page = (config.out / "compare.html").read_text()
    assert "<b>old" not in page
    assert "&lt;b&gt;old&lt;/b&gt;" in page
    assert not re.search(r'<script|https?://|@import|url\(|src="(?!data:)', page)
    assert "Holm:" not in page, "there is one scorer"
    assert page.count("<img") == 12  # six pairs that blurring has made worse, and none better
    assert page.count("<svg") == page.count("</svg>") == 5  # histogram, axis, two categories and all
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", page))


def test_another_scorer_is_added_and_scores_are_used_again(config: Compare) -> None:
    dull = {"name": "dull", "sign": -1.0}
    at_once = run(replace(config, out=config.out / "both"), lambda: [sharpness(), sharpness(**dull)]).result
    first, second = sharpness(), sharpness(**dull)
    before = run(config, lambda: [first])
    added = run(config, lambda: [second])
    assert (before.resumed, added.resumed) == (0, 0)
    assert len(first.scorer.seen) == len(second.scorer.seen) == 2 * PROMPTS
    assert added.result["scorers"] == at_once["scorers"]
    assert added.result["agreement"] == at_once["agreement"]
    assert [set(row["first"][0]["scores"]) for row in added.result["prompts"]] == [{"sharp", "dull"}] * PROMPTS
    again = run(config, lambda: [first])
    assert (again.resumed, again.result["scorers"]) == (2 * PROMPTS, added.result["scorers"])
    assert len(first.scorer.seen) == 2 * PROMPTS


def test_a_scorer_that_has_not_scored_all_images_is_left_out_and_named(
    config: Compare, folders: Path, tmp_path: Path
) -> None:
    renders = tmp_path / "renders"
    shutil.copytree(folders / "blurred", renders)
    new = replace(config, second=renders)
    run(new, lambda: [sharpness()])
    shutil.copy(folders / "sharp/flower/00000.png", renders / "temple/00000.png")
    result = run(new, lambda: [sharpness(name="dull", sign=-1.0)]).result
    assert [scorer["label"] for scorer in result["scorers"]] == ["dull"]
    assert [note for note in result["notes"] if note.startswith("sharp is left out") and "--scorer" in note]


def test_several_images_of_a_prompt_count_with_their_mean(folders: Path, config: Compare, tmp_path: Path) -> None:
    several = tmp_path / "several"
    for path in (folders / "sharp").rglob("*.png"):
        (several / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, several / path.parent.name / f"{path.stem}_0.png")
        shutil.copy(
            folders / "blurred" / path.parent.name / path.name, several / path.parent.name / f"{path.stem}_1.png"
        )
    whole = run(config, lambda: [sharpness()]).result
    half = run(replace(config, second=several, out=tmp_path / "half"), lambda: [sharpness()]).result
    value = half["scorers"][0]["difference"]["value"]
    assert value == pytest.approx(whole["scorers"][0]["difference"]["value"] / 2)
    assert half["second"]["images_per_prompt"] == [2, 2]
    assert any("number of images differs" in note for note in half["notes"])


# What is refused, and what is said


def test_missing_images_of_both_folders_are_one_error(config: Compare, folders: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for target in (first, second):
        shutil.copytree(folders / "sharp", target)
    (first / "temple/00001.png").unlink()
    (second / "flower/00004.png").unlink()
    (second / "flower/00005.png").unlink()
    both = replace(config, first=first, second=second)
    with pytest.raises(InputError) as caught:
        run(both, lambda: pytest.fail("loaded"))
    assert caught.value.place == str(first)
    assert "1 missing: temple/00001" in caught.value.found
    assert f"{second} has images" in caught.value.found
    assert "2 missing: flower/00004, flower/00005" in caught.value.found
    assert "--allow-missing" in caught.value.cure
    found = run(replace(both, allow_missing=True), lambda: [sharpness()]).result
    assert found["compared"] == PROMPTS - 3
    what = "compared are the 9 of 12 that have one in both"
    assert f"Prompts without an image: 1 in first and 2 in second; {what}." in found["notes"]
    for name in ("temple", "flower"):
        shutil.copytree(folders / "sharp" / name, tmp_path / f"only-{name}" / name)
    apart = replace(config, first=tmp_path / "only-temple", second=tmp_path / "only-flower", allow_missing=True)
    with pytest.raises(InputError, check=at(f"{apart.first} and {apart.second}", found="for 6 and 6 prompts, for 0")):
        run(apart, lambda: pytest.fail("loaded"))


def test_a_comparison_of_something_else_is_not_replaced(config: Compare, tmp_path: Path) -> None:
    run(config, lambda: [sharpness()])
    path, ledger = config.out / "compare.json", config.out / "scores.ledger"
    before = path.read_bytes()
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(Path(config.prompts).read_text().replace("part 3", "a part"))
    for changes, found in (
        ({"first": config.second, "second": config.first}, "first"),
        ({"prompts": prompts}, "suite"),
    ):
        with pytest.raises(OutputError, check=at(ledger, found=f"has {found}")):
            run(replace(config, **changes), lambda: pytest.fail("loaded"))
    ledger.rename(tmp_path / "away")
    with pytest.raises(OutputError, check=at(path, found="without its scores.ledger")):
        run(config, lambda: pytest.fail("loaded"))
    assert path.read_bytes() == before
    for text in ("[1", '{"format": 1}', "[]"):
        path.write_text(text)
        with pytest.raises(OutputError, check=at(path, found="is there already")):
            run(config, lambda: pytest.fail("loaded"))


def test_one_folder_twice_is_said(config: Compare) -> None:
    result = run(replace(config, second=config.first), lambda: [sharpness()]).result
    assert (result["first"]["name"], result["second"]["name"]) == (f"{config.first} (A)", f"{config.first} (B)")
    assert result["notes"] == [f"{config.first} (A) and {config.first} (B) are one and the same folder."]
    assert result["verdict"] == f"No difference: {result['notes'][0].removesuffix('.')}"


def test_folders_of_one_name_are_told_apart(config: Compare) -> None:
    named = replace(config, first=Path("old/images"), second=Path("new/images"))
    assert named.called() == (str(Path("old/images")), str(Path("new/images")))
    assert replace(named, names=("", "ours")).called() == (str(Path("old/images")), "ours")
    assert replace(named, names=("x", "x")).called() == ("x (A)", "x (B)")
    with pytest.raises(InputError, check=at("out", found="is the folder of the images")):
        replace(config, out=config.second)


def test_repeated_prompts_and_images_are_said(config: Compare, folders: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(["a cat", "a cat", "a dog", "a cow"]))
    for name in ("first", "second"):
        (tmp_path / name / "spare").mkdir(parents=True)
        for number in range(4):
            source = folders / ("sharp" if name == "first" else "blurred") / f"temple/{number % 3:05d}.png"
            shutil.copy(source, tmp_path / name / f"{number:05d}.png")
    plain = Compare(
        first=tmp_path / "first", second=tmp_path / "second", prompts=prompts, out=tmp_path / "out", resampling=FEW
    )
    notes = run(plain, lambda: [sharpness()]).result["notes"]
    assert [note for note in notes if note.startswith("1 of 4 prompts repeats another; those of one text")]
    assert [note for note in notes if note.startswith("first: 2 prompts have an image that stands for another prompt")]
    assert [note for note in notes if note.endswith("were not looked into: spare.")]


# The sheet


COLOURS = ("#ff0000", "#00ff00", "#0000ff", "#ffff00")


def _sheet(verdict: str, names: tuple[str, str], prompt: str, *, pairs: int) -> Image.Image:
    """The sheet of pairs that are red and green, blue and yellow, and so on, in both of its rows."""
    cases, pictures = [], {}
    for n in range(pairs):
        for side, colour in zip(("first", "second"), COLOURS[2 * (n % 2) :], strict=False):
            pictures[side, str(n)] = Image.new("RGB", (64, 48), colour)
        cases.append({"prompt": n, **{side: {"image": str(n), "score": 1 - 3 * n} for side in ("first", "second")}})
    scorer = {"label": "mini", "extremes": {"for_first": cases, "for_second": cases}}
    sides = {side: {"name": name} for side, name in zip(("first", "second"), names, strict=True)}
    result = {"verdict": verdict, "scorers": [scorer], "prompts": [{"prompt": prompt}] * pairs, **sides}
    return compare_sheet(result, pictures)


def test_the_sheet_shows_both_sides_of_each_pair() -> None:
    sheet = _sheet("B is better", NAMES, "a prompt", pairs=4)
    assert sheet.size == (1920, 1080)
    areas = {colour: count for count, colour in sheet.getcolors(1 << 20)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)} <= areas.keys()
    assert areas[255, 0, 0] == 4 * areas[0, 0, 255] / 2, "three pairs in a row: the fourth is left out"


@pytest.mark.parametrize("size", [1e-150, 1e-12, 1e12])
def test_tiny_and_huge_differences_have_axes_that_can_be_read(size: float) -> None:
    ahead = np.linspace(-1, 2, 24) * size
    found = compared(np.ones(24), np.ones(24) + ahead, np.array(["x", "y"] * 12), NAMES, FEW)
    small = compared(np.zeros(24), ahead, np.array(["x", "y"] * 12), NAMES, FEW)
    for figures in (found, small):
        drawn = histogram(figures, ["c0", "c1"]), interval_axis(effect_axis(figures))
        assert not re.search(r"\.\d{12}|nan|inf", "".join(drawn))
