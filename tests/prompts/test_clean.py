"""The rules: what they take out, what they leave, and that every change can be traced in the raw text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.prompts.clean import clean

each = pytest.mark.parametrize


@each(
    ("raw", "expected"),
    [
        ("8 k photo of a dog, 1 9 5 0 s, sci - fi ", "photo of a dog, 1950s, sci-fi"),
        ("cyberpunk 2 0 7 7, nba 2 k 2 2, y 2 k", "cyberpunk 2077, nba 2k22, y2k"),
        ("it ' s a close - up of spider - man", "it's a close-up of spider-man"),
        ("robot 2 0 2 2 3 d art", "robot 2022 3d art"),
        ("a cat and 1 2 3 go", "a cat and 1 2 3 go"),
        ("Portrait - of a man", "Portrait - of a man"),
        ("&amp; a cat\u200b on Ã©toffe", "& a cat on étoffe"),
        ("a man ,, with\n\na hat , ", "a man, with a hat"),
        (", a man,a hat ,gloves", "a man, a hat, gloves"),
        ("A low wall - highly old.", "A low wall - highly old."),
    ],
)
def test_text_that_a_tokeniser_took_apart_is_put_together(raw: str, expected: str) -> None:
    assert clean(raw).text == expected


@each(
    ("raw", "expected"),
    [
        ("[a cat|(a dog:1.1)]", "a cat"),  # nested weight in an alternation
        ("a [|red|] cat", "a red cat"),  # empty alternatives
        ("a [foo : 0.1 ] cat", "a foo cat"),  # blanks before the bracket
        ("[black:white:0.25] dog", "white dog"),
        ("[black:white:0.75] dog", "black dog"),
        ("(red hair:1.3), ((smile)), ( ( hat ) ), [blush]", "red hair, smile, hat, blush"),
        ("a man (left) and a woman \\(right\\)", "a man (left) and a woman (right)"),
        ("cat++ on a mat BREAK BREAK a dog", "cat on a mat, a dog"),
        ("<lora:__my_style__:0.8> a cat", "a cat"),  # the name of a tag is no wildcard
        ("{3::red|blue} cat, {2$$tin|gold} box", "red cat, tin box"),
        ("a cat --ar 16:9 --no dogs, birds --v 5", "a cat"),
        ("cat::2 dog::-1", "cat, dog"),
        ("a cat\nNegative prompt: ugly,\nbad hands\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 8x8", "a cat"),
        ("a cat | a mat || a hat", "a cat, a mat, a hat"),
        ("anime!! girl!!! smiles!", "anime, girl, smiles!"),
        ("a beautiful!! elf, a toy!! of a cat", "a beautiful elf, a toy of a cat"),  # the phrase goes on
        ("a palm inside:1.2 a bottle", "a palm inside a bottle"),
        ("red hair:1.3  roman bath:1.1, mat", "red hair, roman bath, mat"),
        ("bird: a nest: red: sky", "bird, a nest, red, sky"),
        ("a **red** cat, w 640", "a red cat"),
        ("[--height 512] --v 4 a cat in a wood", "a cat in a wood"),  # an option takes its value only
        ("a cat, studio photo\u2013beta \u2013ar 2:3", "a cat, studio photo"),
        ("a cat without a face:2, in a wood : 4", "a cat without a face, in a wood"),
        ("Prompt: a cat, cfg scale 7, chaos 50", "a cat"),
    ],
)
def test_syntax_of_user_interfaces_goes(raw: str, expected: str) -> None:
    cleaned = clean(raw)
    assert cleaned.text == expected
    assert {change.kind for change in cleaned.changes} >= {"syntax"}


@each(
    ("raw", "expected"),
    [
        ("a cat, highly detailed, 8k, octane render, trending on artstation", "a cat"),
        ("a cat, intricate and highly detailed digital art by artgerm, wlop and mucha", "a cat, intricate digital art"),
        ("a fox by greg rutkowski, oil on canvas", "a fox by greg rutkowski, oil on canvas"),  # one is a style
        ("a fox, art by artgerm and greg rutkowski and jane qwertz", "a fox"),  # a stranger among the known
        ("A highly detailed oil painting of an owl.", "An oil painting of an owl."),
        ("A tower featuring intricate and highly detailed city walls.", "A tower featuring intricate city walls."),
        ("a fox, digital painting, concept art, illustration", "a fox, digital painting"),  # the first medium stands
        ("an owl and a dog, shot on canon eos 5d, 35mm lens, f/1.8, bokeh", "an owl and a dog"),
        ("a candid 35mm photo of a dog", "a candid photo of a dog"),
        ("A dice in artwork by Ann Bo that is trending on Artstation.", "A dice in artwork by Ann Bo."),
        ("a cat, a cat, on a mat", "a cat, on a mat"),
        ("a cat, very detailed face, fine details, sharp-focus", "a cat, very detailed face"),
        ("a cat in a hat, highly detailed digital painting", "a cat in a hat, digital painting"),
        ("A room with flat shading and hyper-detailed walls.", "A room with flat shading and walls."),
        ("a cat, stunning photo, digital masterpiece", "a cat, photo"),
        ("statue of a cat in a jungle masterpiece artwork", "statue of a cat in a jungle artwork"),
        ("Intricately detailed image of an owl.", "Image of an owl."),
        ("a cat, shot with Ilford HP5 Plus, Sony Alpha A7 III, 2 0 0 mm f 1 6", "a cat"),
        ("a cat, very very beautiful!, maximum image quality, hard focus", "a cat"),
        (
            "a knight in high fantasy art trending on artstation pinterest detailed hd 8 k",
            "a knight in high fantasy art",
        ),
        ("a cat, elegant digital painting pixiv", "a cat, elegant digital painting"),
        ("a knight : happy : artstation behance trends", "a knight : happy"),
        ("a cat, canon rebel r6, full-frame, Zeiss F1.2 aperture with Hasselblad camera", "a cat"),
        ("a cat, stunning gameplay, stunning scene, blue light *", "a cat, gameplay, blue light *"),
        ("a cat, captured in a moody and highly detailed portrait", "a cat, captured in a moody portrait"),
        ("A cat created in Blender, Maya, and Photoshop software.", "A cat."),
        ("a stunning view of an epic castle, breathtaking atmosphere", "a view of a castle"),
        ("an ultra intricate and very detailed old map, tack sharp", "an old map"),
        ("a cat, high defintion, sharp foccus, photorealstic", "a cat"),  # misspelt
        ("a cat, made with midjourney, 16:9, long exposure time", "a cat"),
    ],
)
def test_boosters_go(raw: str, expected: str) -> None:
    assert clean(raw).text == expected


@each(
    ("raw", "expected"),
    [
        ("a cat by wlop, artgerm, dramatic lighting, by mucha", "a cat, dramatic lighting"),
        ("a cat, artgerm, michal qwertz, wlop, blue sky", "a cat, blue sky"),  # a stranger among the known
        ("a cat by collier, mucha, wlop", "a cat"),
        (
            "a cat by artgerm, wlop, beeple, volumetric lighting, dark sky-blue",
            "a cat, volumetric lighting, dark sky-blue",
        ),
        (
            "A nun surrounded by fireflies, drawn by wlop and mucha.",
            "A nun surrounded by fireflies, drawn by wlop and mucha.",
        ),
        ("A nun by several artists including Artgerm, Wlop, and Mucha.", "A nun."),
        ("A nun, art like Artgerm's, by wlop and mucha.", "A nun, art like Artgerm's, by wlop and mucha."),
        ("a cat, digital art by artgerm, wlop, mucha", "a cat, digital art"),
        ("a cat, emma watson, artgerm, wlop, mucha", "a cat, emma watson"),
        ("a cat, wlop, artgerm, edward hooper", "a cat"),  # a given name after known artists
        ("a cat by wlop, artgerm, glenn brown, nick alm, blue sky", "a cat, blue sky"),
        ("a cat, Hieronymous Bosch, wlop, mucha", "a cat"),  # the first name goes along
        ("a cat by artgerm, wlop, mucha and the chamba", "a cat"),
        ("a cat by feng zhu graffiti comics, by artgerm, by wlop", "a cat, graffiti comics"),
        ("a cat, style wlop and artgerm and mucha", "a cat"),
        ("a cat, jantina peperkamp, artgerm, wlop, blue sky", "a cat, blue sky"),
        ("art of a chetnik ilya kuvshinov, wlop, mucha", "art of a chetnik"),
        ("a cat in a denis villeneuve film, by artgerm, wlop, mucha", "a cat in a denis villeneuve film"),
        ("hair by artgerm, wlop, kaethe butcher, gradient cyan, brown", "hair, gradient cyan, brown"),
        ("a cat in the style of stefan kostic, realistic, art by stanley lau and artgerm", "a cat, realistic"),
        ("an elf, style by donato giancola, wayne reynolds, jeff easley dramatic light", "an elf, dramatic light"),
        (
            "a park in the style of famous artists like Claude Monet, Vincent van Gogh, and John Constable, fog",
            "a park, fog",
        ),
        ("a cat by artgerm, wlop, Kawacy, Bluesssatan, blue sky", "a cat, blue sky"),  # strangers of one word
    ],
)
def test_a_stack_of_artists_goes_and_what_stands_beside_it_stays(raw: str, expected: str) -> None:
    assert clean(raw).text == expected


@each(
    "text",
    [
        "a dog sits in a white car :)",
        "A castle depicted in an elegant, intricate style.",
        "Two cats and three red dogs without collars.",
        "nikon camera, on a wooden table",  # a subject, not a spell
        "A beautiful, smooth stone in sharp light",
        "the maya temple in a 5k run",
        "blender full of fruit beside an iphone",
        "c++ book, 18+ sign",
        "Martin Luther King speaks at the Washington mall",
        "a bathroom with a towel hanging near by",
        "A man with a wet face, on a perfect circle",
        "🦄",
    ],
)
def test_what_can_be_seen_stays(text: str) -> None:
    assert clean(text).text == text
    assert not clean(text).review


@each(
    ("raw", "reason"),
    [
        ("[|", "no word"),
        ("((((((a cat", "brackets"),
        ("a __color__ cat", "wildcard"),
        ("masterpiece, 8k, trending on artstation", "boosters"),
        ("||", "no word"),
        ("x" * 5_000_000, "characters"),
    ],
)
def test_what_is_unclear_is_left_and_marked(raw: str, reason: str) -> None:
    cleaned = clean(raw)
    assert reason in cleaned.review
    assert cleaned.text.strip()


@each(
    ("raw", "reason"),
    [
        ("a cat, 8k, octane rock band", "still has 'octane'"),
        ("a cat, 8k, hyperrealisitc horse", "may be 'hyperrealistic'"),
        ("a cat, very detailed, intricate", ""),
        ("an elf by wlop, artgerm, mucha, red sky, dave melvin", "artists are left"),
        ("an elf by brom, 8k, dave melvin, red sky, disney", "names many artists"),
        ("an elf, stunning moss, a hat", "'moss' hangs"),
        ("we went in 4k hyperdetailed surrealism, a hat", "is torn"),
        ("a scene directed by, 8k, hat", "leads to nothing"),
        ("an elf in fog, artstation and moss, a hat", "follows nothing"),
        ("“an elf in fog, 4k”", "has no partner"),
        ("a sign that reads 4k, in fog", "may be written there"),
        ("an elf by wlop, artgerm, mucha and doom", "for an artist"),
        ("an elf, highly detailed, in fog", ""),
        ("an elf with a contact lens", ""),  # nothing was changed
    ],
)
def test_a_result_that_is_not_finished_or_torn_is_marked(raw: str, reason: str) -> None:
    review = clean(raw).review
    assert (reason in review) if reason else not review, (clean(raw), review)


PIECES = st.lists(
    st.sampled_from(
        [*"()[]{}|:\\<>,.;!-+_ ", "cat", "8 k", "highly detailed", "by artgerm", "and wlop", "0.5", "::", "--ar"]
    ),
    max_size=40,
).map("".join)


@given(PIECES | st.text(max_size=60))
def test_nothing_breaks_the_rules_and_every_change_has_its_place(raw: str) -> None:
    cleaned = clean(raw)
    assert bool(cleaned.text.strip()) == bool(raw.strip())
    for change in cleaned.changes:
        assert raw[change.start : change.end] == change.text
        assert change.text != change.put
    if not cleaned.changes:
        assert cleaned.text == raw
