"""What an error or a command shows of strangers' text: one line, no secret, nothing that steers a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.errors import InputError, listed, masked, printable, shown


@given(st.text(st.characters()), st.text(max_size=3))
def test_an_error_is_one_line_that_steers_nothing(text: str, expected: str) -> None:
    said = str(InputError(f"a.json: {text}", text * 300, expected=expected, cure=text))
    assert len(said.splitlines()) == 1
    assert len(said) < 20_000
    said.encode()
    assert not {c for c in said if c in "\x1b\x07\x7f\x9b\u200e\u202e\u2066\u2028"}


@pytest.mark.parametrize(
    "text", ["a cat", "näïve 漢字", "a\u3000b", "क\u200dष", "👨\u200d👩\u200d👧", "https://x.org/a@2x.png?size=3"]
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "masks"),
    [
        ("s3://user:SECRET@bucket/x", "s3://…@bucket/x"),
        ("s3:/user:SEC/RET@bucket/x", "s3:/…@bucket/x"),  # as `Path` writes an address
        ("https://SECRET@hub.example/x", "https://…@hub.example/x"),
        ("get https://h/x?a=1&X-Amz-Signature=SECRET&b=2: 403", "get https://h/x?a=1&X-Amz-Signature=…&b=2: 403"),
        ("https://h/x?token=SECRET'", "https://h/x?token=…'"),
        ("Authorization: Bearer SECRET", "Authorization: Bearer …"),
        ("hpskit train --hub-token SECRET --set max_tokens=77", "hpskit train --hub-token … --set max_tokens=77"),
        ("hf_SECRETsecretSECRETsecret is not valid", "… is not valid"),
    ],
)
def test_secrets_are_masked(text: str, masks: str) -> None:
    assert masked(text) == masks
    assert str(InputError(text, text)) == f"{masks}: {masks}"


def test_values_are_cut_to_what_a_line_holds() -> None:
    assert shown("x" * 10**6) == "'" + "x" * 78 + "…"
    assert len(shown({"bytes": b"\xff" * 10**6, "path": None})) == 80
    assert shown(10**5000) == "too long to be shown"
    assert printable("a" * 900 + "z", 30) == f"{'a' * 20} … {'a' * 9}z"
    assert (listed("abc", 3), listed("abc", 2), listed([], 2)) == ("a, b, c", "a, b and 1 more", "")
