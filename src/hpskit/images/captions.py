"""Photographs with captions, as those of COCO, in the place of a generator: what real images score for its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pydantic import ConfigDict

from hpskit import __version__
from hpskit.errors import InputError
from hpskit.files import check_regular, expand, read_json, sha256_file
from hpskit.images.contract import GeneratorInfo, GeneratorSettings, Outcome
from hpskit.schema import Strict, parse


class Settings(GeneratorSettings):
    """Places of photographs and captions."""

    captions: str
    """JSON with `images` and `annotations`, for example `captions_val2017.json`."""
    folder: str
    """The folder that `file_name` starts from."""


class _Part(Strict):
    """A part of COCO's file, as far as it is needed."""

    model_config = ConfigDict(extra="ignore")


class _Photograph(_Part):
    id: int | str
    file_name: str


class _Caption(_Part):
    image_id: int | str
    caption: str


class _Coco(_Part):
    images: list[_Photograph]
    annotations: list[_Caption]


class Captions:
    """See `hpskit.images.contract.Generator`. Captions are read when the first image is asked for."""

    def __init__(self, settings: Settings) -> None:
        """Look for file and folder.

        Raises:
            InputError: they are not there.
        """
        self.captions, self.folder = expand(settings.captions), expand(settings.folder)
        check_regular(self.captions)
        if not self.folder.is_dir():
            raise InputError(self.folder, "is not a folder", expected="the photographs", cure="correct `folder`")

    @cached_property
    def info(self) -> GeneratorInfo:
        """The file of captions; photographs are known by their names in it."""
        own = {"captions": self.captions.name, "sha256": sha256_file(self.captions)}
        return GeneratorInfo(name="photographs", version="", settings=own, package=f"hpskit {__version__}")

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Outcome]:
        """Return the unchanged file of each caption's photograph; of several with one caption the seed chooses.

        Raises:
            InputError: the captions are not COCO's.
        """
        return [self._photograph(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _photograph(self, prompt: str, seed: int) -> Outcome:
        names = self._names.get(plain(prompt))
        if not names:
            return Outcome(reason="no-photograph", said="no caption is this prompt", final=True)
        facts: dict[str, Any] = {"photograph": (name := names[seed % len(names)])}
        path = self.folder / name
        try:
            there = path.resolve().is_relative_to(self.folder.resolve()) and path.is_file()
        except (OSError, ValueError):  # too long for a name, or has a NUL
            there = False
        if not there:
            return Outcome(reason="no-photograph", said=f"{name} is not in the folder", final=True, facts=facts)
        return Outcome(image=path.read_bytes(), facts=facts)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Each caption, and the files that have it, in the order of their names."""
        coco = parse(_Coco, read_json(self.captions), self.captions, cure="take COCO's captions_….json")
        files = {image.id: image.file_name for image in coco.images}
        found: dict[str, set[str]] = {}
        for caption in coco.annotations:
            if caption.image_id in files:
                found.setdefault(plain(caption.caption), set()).add(files[caption.image_id])
        return {caption: sorted(names) for caption, names in found.items()}


load = Captions


def plain(caption: str) -> str:
    """Return a caption as it is compared: COCO has some with a blank or a line break too many."""
    return " ".join(caption.split())
