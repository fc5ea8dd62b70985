"""A project for the first minute: prompts that the embedded painter paints, better and worse."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from hpskit.annotation.project import Settings
from hpskit.annotation.setup import Source, Stated, make_project
from hpskit.dataset.group import Group, Judgement
from hpskit.images.painter import Painter, PainterSettings
from hpskit.pixels import Encoded

_PROMPTS = (
    "a red house by a lake under a full moon",
    "two boats on a calm sea at sunset",
    "a green tree on a hill in the morning mist",
    "three flowers in a blue vase on a table",
    "snowy mountains behind a yellow field",
    "a white lighthouse on a rock in a storm",
    "a field of poppies under a cloudy sky",
    "an orange sun over a dark forest",
)
_CARES = (1.0, 0.75, 0.5, 0.3, 0.1)
"""Care of the painters, the best first; each prompt shows four of them."""


def make_demo(folder: Path, progress: Callable[[str, int, int | None], None] = lambda *_: None) -> Stated:
    """Make the project of `hpskit annotate demo`: six tasks, and two for practice whose order is known.

    Raises:
        OutputError: the folder holds something else.
    """
    images: dict[str, bytes] = {}
    groups = []
    for number, prompt in enumerate(_PROMPTS):
        progress("painting", number, len(_PROMPTS))
        cares = [care for place, care in enumerate(_CARES) if place != 1 + number % 4]
        for care in cares:
            memory = io.BytesIO()
            painter = Painter(PainterSettings(name=f"care-{care:g}", care=care))
            painter.generate([prompt], [number])[0].save(memory, "PNG")
            images[f"{number}/{care:g}.png"] = memory.getvalue()
        names = tuple(f"{number}/{care:g}.png" for care in cares)
        ranks = tuple(range(1, len(names) + 1))
        sources = tuple(f"painter, care {care:g}" for care in cares)
        gold = (Judgement(ranks=ranks),) if number < 2 else ()
        groups.append(
            Group(place=f"demo {number}", id=f"{number}", prompt=prompt, images=names, sources=sources, judgements=gold)
        )
    settings = Settings(name="Which picture is better?", overlap=3, practice_tasks=2, practice_score=0.0, consent=False)

    def read(_: Group, name: str) -> Encoded:
        return Encoded(images[name], name)

    return make_project(
        folder,
        settings,
        Source(groups=groups[2:], read=read),
        gold=Source(groups=groups[:2], read=read),
        progress=progress,
    )
