"""Every documented command gives what it gave: see make.py, which also updates the stored outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden.make import CHAINS, differences, load, run_chain, tolerance


@pytest.mark.parametrize("chain", CHAINS)
def test_commands_give_what_they_gave(chain: str, tmp_path: Path) -> None:
    wrong = list(differences(load(chain), run_chain(chain, tmp_path / chain), tolerance(), chain))
    assert not wrong, "\n".join(["", *wrong])
