"""How tests look at an error: by its fields, not by its wording.

with pytest.raises(RecordError, check=at("votes.csv: row 7", found="'x'")): ...
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["at"]


def at(
    place: str | os.PathLike[str] = "", *, found: str = "", expected: str = "", cure: str = ""
) -> Callable[[BaseException], bool]:
    """Check that each field of an error of hpskit contains the text given for it."""
    wanted = {"place": os.fspath(place), "found": found, "expected": expected, "cure": cure}

    def check(error: BaseException) -> bool:
        fields = {name: getattr(error, name) for name in wanted}
        for name, text in wanted.items():
            assert text in fields[name], f"{name} is {fields[name]!r}, without {text!r}, in: {error}"
        return True

    return check
