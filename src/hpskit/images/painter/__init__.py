"""The painter: pictures drawn from the words of a prompt, in good and in deliberately poor ways."""

from __future__ import annotations

from hpskit.images.painter.painter import Painter
from hpskit.images.painter.scene import Scene, Thing, read_scene
from hpskit.images.painter.settings import SETTINGS, PainterSettings

__all__ = ["SETTINGS", "Painter", "PainterSettings", "Scene", "Thing", "read_scene"]
