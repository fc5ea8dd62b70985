"""Settings of an annotation project: one TOML file, `project.toml`, in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from hpskit.errors import InputError
from hpskit.files import publish, read_toml
from hpskit.schema import Strict, parse

SETTINGS = "project.toml"
_Line = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
_Lines = Annotated[tuple[_Line, ...], Field(strict=False, max_length=12)]


class Pay(Strict):
    """Pay of annotators: by task, by hour of active time, or both; see docs/annotation.md."""

    currency: _Line = "EUR"
    per_task: float = Field(default=0.0, ge=0)
    per_hour: float = Field(default=0.0, ge=0)
    bonus: float = Field(default=0.0, ge=0)
    """Added once for those whose reliability is at least `bonus_from` and who did `bonus_tasks` tasks."""
    bonus_from: float = Field(default=0.6, ge=-1, le=1)
    bonus_tasks: int = Field(default=50, ge=1)


class Panel(Strict):
    """A platform that sends people: what it calls the study, and the codes that it takes back."""

    study: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """STUDY_ID of Prolific, hitId of MTurk; links of other studies are refused."""
    completed: _Line
    screened_out: _Line = "SCREENED-OUT"
    full: _Line = "QUOTA-FULL"
    tasks: int = Field(default=20, ge=1)
    """Tasks that a person does for one place."""
    places: int = Field(default=100, ge=1)
    back: Annotated[str, StringConstraints(max_length=500, pattern=r"^(https://.*)?$")] = ""
    """Address that people return to; `{code}` in it is replaced."""


class Settings(Strict):
    """Everything that a project decides."""

    name: _Line
    mode: Literal["rank", "pair"] = "rank"
    overlap: int = Field(default=10, ge=1, le=1000)
    """Different people for each task; HPD v2 has 10 for its test set."""
    train_overlap: int = Field(default=1, ge=1, le=1000)
    """The same for tasks that are for training; HPD v2 has 1."""
    task_order: Literal["random", "given"] = "random"
    """Started tasks first and the rest at random for each person, or all in the order in which they were brought."""
    extra_votes: int = Field(default=0, ge=0, le=1000)
    """Votes that a task may get beyond its overlap, where one more vote may well turn a pair."""
    extra_from: float = Field(default=0.1, gt=0, lt=0.5)
    """Mean chance that one more vote turns a pair, from which a task gets it; see `stats.planning.flip_probability`."""
    ties: bool = True
    partial: bool = False
    none: bool = True
    """Offer "none is acceptable", which is no tie."""
    ratings: int = Field(default=0, ge=0, le=10)
    """Levels of a rating for each image, 0 for no ratings."""
    flags: _Lines = ("does not show the prompt", "broken", "offensive")
    skip_reasons: _Lines = ("images do not load", "cannot judge this", "offensive")
    skips: int = Field(default=20, ge=0)
    """Skips that a person has."""
    per_person: int | None = Field(default=None, ge=1)
    """The most tasks of one person."""
    lease_minutes: float = Field(default=30.0, gt=0, le=10_000)
    change_minutes: float = Field(default=30.0, ge=0)
    """Minutes for which a person may change one of the last five answers."""
    practice_tasks: int = Field(default=5, ge=0)
    """Tasks of the qualification, taken from the gold tasks; none without gold."""
    practice_score: float = Field(default=0.7, ge=0, le=1)
    """Share of the experts' clear pairs that qualifies."""
    agree_share: float = Field(default=0.9, gt=0.5, le=1)
    """Share of the experts that makes a pair of a gold task a clear one."""
    checks: Literal["auto", "off"] = "auto"
    """Hidden checks where a task has one vote: 12 in the first 60 tasks, then 1 in 25."""
    pause: bool = True
    """Pause annotators on evidence that they do not look; see docs/annotation.md."""
    least_seconds: float = Field(default=0.5, ge=0)
    """Seconds an image below which a vote counts as too fast."""
    consent: bool = True
    """Show consent.md and ask before anything else."""
    withdrawal: Literal["delete", "keep"] = "delete"
    """What becomes of the votes of somebody who withdraws: deleted, or kept under the pseudonym."""
    seed: int = 0
    pay: Pay = Pay()
    prolific: Panel | None = None
    mturk: Panel | None = None

    @field_validator("pay", mode="before")
    @classmethod
    def _from_table(cls, value: Any) -> Any:
        return Pay.model_validate(value) if isinstance(value, dict) else value


class Project:
    """A folder: its settings, its images, its texts, and where its database is."""

    def __init__(self, folder: Path, settings: Settings, database: str = "") -> None:
        self.folder = folder
        self.settings = settings
        self.database = database or f"sqlite:///{folder.resolve() / 'annotation.sqlite'}"

    @property
    def images(self) -> Path:
        """The folder of the images as annotators get them, named by their content."""
        return self.folder / "images"


def open_project(folder: Path, database: str = "") -> Project:
    """Open a project that `hpskit annotate init` made.

    Raises:
        InputError: there is none, or its settings are not right.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise InputError(folder, "is no annotation project", cure=f"make it: hpskit annotate init {folder} --images …")
    return Project(folder, parse(Settings, read_toml(path), path), database)


def write_settings(path: Path, settings: Settings) -> None:
    """Write settings as TOML; those that nobody changed are written too, so that the file shows what there is."""
    lines, tables = [], []
    for name, value in settings.model_dump(exclude_none=True).items():
        if isinstance(value, dict):
            tables += ["", f"[{name}]", *(f"{key} = {json.dumps(inner)}" for key, inner in value.items())]
        else:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    with publish(path) as temporary:
        temporary.write_text("\n".join([*lines, *tables, ""]), encoding="utf-8")


def read_text(project: Project, name: str, default: str) -> str:
    """Return a text of the project's, such as `instructions.md`, or the default where there is none."""
    path = project.folder / name
    return path.read_text(encoding="utf-8") if path.is_file() else default
