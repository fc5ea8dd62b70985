"""Images as pixels: open and check them, make them the input of a network, and measure them.

images       from a file to an upright RGB image, or to one error
preprocess   letterbox, resize and normalise, by one code for files, PIL images and tensors
statistics   colours
"""

from hpskit.pixels.images import (
    BACKGROUND,
    LARGEST,
    LARGEST_FILE,
    Encoded,
    check_file,
    check_files,
    check_head,
    open_image,
    opened,
    thumbnail,
)
from hpskit.pixels.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    Layout,
    Preprocessing,
    Resize,
    as_float,
    as_pixels,
    to_image,
    to_tensor,
)

__all__ = [
    "BACKGROUND",
    "CLIP_MEAN",
    "CLIP_STD",
    "LARGEST",
    "LARGEST_FILE",
    "Encoded",
    "Layout",
    "Preprocessing",
    "Resize",
    "as_float",
    "as_pixels",
    "check_file",
    "check_files",
    "check_head",
    "open_image",
    "opened",
    "thumbnail",
    "to_image",
    "to_tensor",
]
