"""Scorers that rank and compare: one that runs a network, one that wraps anybody's, and how to load either by name."""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

import numpy as np
from PIL import Image

from hpskit.errors import ImageError, InputError, ModelError
from hpskit.models.loading import load_network
from hpskit.models.network import Network, choose_device
from hpskit.models.plugins import find_plugin, load_plugin, own_code
from hpskit.models.registry import DEFAULT_MODEL
from hpskit.pixels import Encoded, Layout, Preprocessing, as_float, as_pixels, thumbnail, to_image
from hpskit.records import ScorerInfo
from hpskit.scoring.contract import ImageLike, Images, Scorer
from hpskit.scoring.ranking import Ranking, ranked, win_probability
from hpskit.scoring.streaming import Prepared, stream
from hpskit.stage import told

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_BATCH = 65_536
_CACHED_PROMPTS = 10_000
_ENCODED_AT_ONCE = 64  # prompts
_ASKED_AT_ONCE = 8  # of a judge


class PreferenceScorer(ABC):
    """Scores, ranks and compares images for prompts. Safe to use from several threads."""

    def __init__(
        self,
        info: ScorerInfo,
        *,
        preprocessing: Preprocessing | None,
        log_odds_per_point: float | None,
        reads_prompt: bool,
        batch_size: int | None,
        batch_invariant: bool = False,
    ) -> None:
        """Keep what a scorer states of itself.

        Raises:
            ModelError: its `log_odds_per_point` or `reads_prompt` is impossible.
        """
        _check_batch_size(batch_size)
        sensible = log_odds_per_point is None or (
            isinstance(log_odds_per_point, int | float)
            and not isinstance(log_odds_per_point, bool)
            and (log_odds_per_point == 0 or 1e-12 <= log_odds_per_point <= 1e12)
        )
        if not sensible:  # scores are float32: times this they could be infinities, or zeros that they were not
            place, found = f"{info.name}: log_odds_per_point", f"is {log_odds_per_point!r}"
            expected = "0, a number from 1e-12 to 1e12, or None if differences of scores say nothing of probabilities"
            raise ModelError(place, found, expected=expected, cure="mend the scorer")
        if not isinstance(reads_prompt, bool):
            place, found = f"{info.name}: reads_prompt", f"is {reads_prompt!r}"
            raise ModelError(place, found, expected="True or False", cure="mend the scorer")
        self.info = info
        """Who gives these scores: model, version, weight hash, preprocessing, precision, package version."""
        self.preprocessing = preprocessing
        """How an image becomes the input; None if the scorer takes decoded images and does the rest itself."""
        self.batch_size = batch_size or (8 if choose_device("auto").type == "cpu" else 64)
        """Images per step."""
        self.batch_invariant = batch_invariant
        """Whether a score has the same bits whatever is scored beside it: see `load_scorer`."""
        self.reads_prompt = reads_prompt
        """Whether the score depends on the prompt."""
        self.log_odds_per_point = log_odds_per_point
        """Log-odds of being preferred for each point of difference; see `Scorer`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.identity}>"

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Return the scorer itself: it may be shared, and gigabytes are not copied with a metric that has it."""
        return self

    @abstractmethod
    def score_prepared(self, images: Sequence[Prepared], prompts: Sequence[str]) -> Tensor:
        """Score one batch of what `preprocessing` has made: N images and N prompts -> (N,) float32, no gradient."""

    def outcomes(self, images: Sequence[Prepared], prompts: Sequence[str]) -> list[float | ImageError]:
        """Score one batch likewise, with an error in place of a score that cannot be had."""
        scores: list[float | ImageError] = self.score_prepared(images, prompts).tolist()
        return scores

    @abstractmethod
    def _score_tensor(self, images: Tensor, prompts: list[str], *, grad: bool, tell: Callable[[int], None]) -> Tensor:
        """Score what `as_pixels` gives, (N, 3, H, W), for N prompts: (N,) where the images live."""

    def score(
        self,
        images: Images,
        prompts: str | Iterable[str],
        *,
        value_range: tuple[float, float] = (0, 1),
        layout: Layout | None = None,
        grad: bool = False,
        progress: bool | Callable[[int], None] | None = None,
    ) -> Tensor:
        """Score N images, each for its prompt; `scorer(images, prompts)` is the same.

        Args:
            images: paths, PIL images, tensors or NumPy arrays of one image, mixed as you like, in anything that can be
                gone through, such as a list or a column of pandas or `datasets`; or one of them; or a tensor or array
                of N images. Those hold uint8, or floats in `value_range`, with the channels first or last.
            prompts: one for each image, or one for all.
            value_range: floats that stand for black and white: (0, 1) or (-1, 1).
            layout: `NCHW` or `NHWC`; needed only if both axes have 3 entries.
            grad: keep the gradient from the scores to the pixels; images must be one tensor of floats, (N, 3, H, W).
            progress: True shows a bar, in a notebook too; a function is called with the number of images scored so far.

        Returns:
            (N,) float32 on the benchmark scale, higher is better; comparable only among images of one prompt and
            between scorers of equal `info.identity`. On the CPU, or where the input tensor lives.

        Raises:
            ImageError: an image is missing, broken or of the wrong shape or range; nothing is skipped.
            InputError: lengths differ, a prompt is empty or not a string.
            ModelError: a score is not finite.
        """
        import torch

        if isinstance(images, torch.Tensor | np.ndarray) and images.ndim == 4:
            texts = _aligned(prompts, len(images))
            pixels = as_pixels(images, dimensions=4, value_range=value_range, layout=layout)
            if grad and not pixels.is_floating_point():
                raise InputError("images", "are whole numbers, which have no gradient", expected="floats with grad")
            with told(progress, "scoring", len(texts)) as tell:
                return self._score_tensor(pixels, texts, grad=grad, tell=tell)
        if grad:
            raise InputError(
                "images", "are not one tensor", expected="a float tensor (N, 3, H, W) with grad", cure="stack them"
            )
        listed = one_by_one(images)
        texts = _aligned(prompts, len(listed))
        for index, image in enumerate(listed):
            if isinstance(image, torch.Tensor | np.ndarray):
                try:
                    listed[index] = as_pixels(image, dimensions=3, value_range=value_range, layout=layout)
                except ImageError as error:
                    raise error.within(f"images[{index}]") from None
        with told(progress, "scoring", len(texts)) as tell:
            return torch.tensor(self._scores(listed, texts, tell), dtype=torch.float32)

    __call__ = score

    def _scores(self, images: list[ImageLike], prompts: list[str], tell: Callable[[int], None]) -> list[float]:
        scores: list[float] = []
        for batch in stream([self], images, prompts):
            for outcome in batch:
                if isinstance(outcome, ImageError):
                    index = len(scores)
                    image = images[index]
                    name = os.fspath(Path(image)) if isinstance(image, str | os.PathLike) else f"images[{index}]"
                    raise outcome if outcome.place.startswith(name) else outcome.within(name)
                if not math.isfinite(outcome[0]):  # a NaN would come out as a rank like any other
                    found = f"gives the score {outcome[0]}"
                    raise ModelError(self.info.name, found, expected="a number", cure="mend the scorer")
                scores += outcome
            tell(len(scores))
        return scores

    def rank(
        self,
        prompt: str,
        images: Images,
        *,
        value_range: tuple[float, float] = (0, 1),
        layout: Layout | None = None,
        progress: bool | Callable[[int], None] | None = None,
    ) -> Ranking:
        """Images made for one prompt, best first; equal scores keep the order given. See `score` for the arguments.

        The probability is the softmax of the scores in log-odds: the modelled chance that people like this one best.
        It is None if nothing says what the scores are in log-odds. A notebook shows the list with the images.
        """
        _check_prompt("prompt", prompt)
        listed = one_by_one(images)
        scores = self.score(listed, prompt, value_range=value_range, layout=layout, progress=progress).tolist()
        labels = [str(Path(i)) if isinstance(i, str | os.PathLike) else f"images[{n}]" for n, i in enumerate(listed)]
        lines = ranked(labels, scores, self.log_odds_per_point)
        pictures = {label: _picture(image, value_range, layout) for label, image in zip(labels, listed, strict=True)}
        return Ranking(lines, prompt=prompt, scorer=self.info.name, pictures=pictures)

    def win_probability(self, prompt: str, first: ImageLike, second: ImageLike) -> float:
        """Modelled probability, 0 to 1, that a person prefers `first` to `second` for this prompt.

        The logistic function of the difference of the scores in log-odds, as in the training loss (HPS v2, section 4);
        of a baseline, as `info.scale` says.

        Raises:
            InputError: nothing says what the scores of this model are in log-odds.
        """
        if self.log_odds_per_point is None:
            cure = "compare the scores, or state log_odds_per_point if you know it"
            raise InputError("win_probability", f"needs log-odds, which {self.info.name} does not give", cure=cure)
        one, other = self.score([first, second], prompt).tolist()
        return win_probability(one, other, self.log_odds_per_point)


class NetworkScorer(PreferenceScorer):
    """Scores images for prompts with one network, which it keeps loaded."""

    def __init__(
        self, network: Network, info: ScorerInfo, *, batch_size: int | None = None, batch_invariant: bool = False
    ) -> None:
        """Use `load_scorer`; this is for networks that a program has made itself."""
        on_cpu = network.device.type == "cpu"
        super().__init__(
            info,
            preprocessing=network.preprocessing,
            log_odds_per_point=network.log_odds_per_point,
            reads_prompt=network.reads_prompt,
            batch_size=batch_size or (8 if on_cpu else 16 if batch_invariant else 64),
            batch_invariant=batch_invariant,
        )
        self._filled = (1 if on_cpu else self.batch_size) if batch_invariant else 0
        """Images of every step, the last one repeated to fill it; 0 is as many as there are."""
        alone = batch_invariant and on_cpu
        self._map = ThreadPoolExecutor(os.cpu_count() or 1, "hpskit-score", _compute_alone).map if alone else map
        self._network = network
        self._prompts: OrderedDict[str, int] = OrderedDict()
        """Rows of the table, the latest last. As tensors of their own they would pin the heap among pixels: 0.4 GB."""
        self._table: Tensor | None = None
        self._lock = threading.Lock()

    def score_prepared(self, images: Sequence[Prepared], prompts: Sequence[str]) -> Tensor:
        """N tensors (3, H, W) and N prompts -> (N,) float32, no gradient; images of one shape go together."""
        import torch

        rows: dict[torch.Size, list[int]] = {}
        tensors: Sequence[Tensor] = images  # type: ignore[assignment]  # because there is a preprocessing
        for row, tensor in enumerate(tensors):
            rows.setdefault(tensor.shape, []).append(row)
        steps = [
            together[start : start + (self._filled or len(together))]
            for together in rows.values()
            for start in range(0, len(together), self._filled or len(together))
        ]

        def scores_of(step: list[int]) -> Tensor:
            filled = step + step[-1:] * (self._filled - len(step))
            with torch.inference_mode(), self._own_precision():
                pixels = torch.stack([tensors[row] for row in filled]).to(self._network.device)
                texts = self._encode_prompts([prompts[row] for row in filled])
                return self._network.compare(self._network.encode_images(pixels), texts)[: len(step)]

        with torch.inference_mode():
            scores = torch.empty(len(tensors), dtype=torch.float32, device=self._network.device)
            for step, found in zip(steps, self._map(scores_of, steps), strict=True):
                scores[step] = found
            return self._all_finite(scores)

    def _own_precision(self) -> AbstractContextManager[Any]:
        """Keep out the autocast of a training around us: the network has its own precision, which its scores name."""
        import torch

        return torch.autocast(self._network.device.type, enabled=False)

    def _all_finite(self, scores: Tensor) -> Tensor:
        """Return the scores if all are finite; if not, the weights or the precision are to blame."""
        if not bool(scores.detach().isfinite().all()):
            other = "" if self.info.precision == "fp32" else ", or score with precision fp32"
            found = f"gives a score that is not finite, in {self.info.precision}"
            raise ModelError(self.info.name, found, cure=f"check the weights with `hpskit models verify`{other}")
        return scores

    def _score_tensor(self, images: Tensor, prompts: list[str], *, grad: bool, tell: Callable[[int], None]) -> Tensor:
        import torch

        network = self._network
        if grad and not network.differentiable:
            cure = "load the scorer with precision='fp32'" if self.info.precision != "fp32" else "score without it"
            raise InputError(
                "grad", f"is True, but {self.info.name} in {self.info.precision} has no gradient", cure=cure
            )
        if not prompts:
            return images.new_zeros(0, dtype=torch.float32)
        if self.batch_invariant and not grad:
            inputs = [network.preprocessing(as_float(image.to(network.device))) for image in images]
            return self.score_prepared(inputs, prompts).to(images.device)
        with torch.no_grad(), self._own_precision():
            texts = self._encode_prompts(prompts)
        parts = []
        with torch.set_grad_enabled(grad), self._own_precision():
            for start in range(0, len(prompts), self.batch_size):
                stop = start + self.batch_size
                pixels = network.preprocessing(as_float(images[start:stop].to(network.device)))
                parts.append(network.compare(network.encode_images(pixels), texts[start:stop]))
                tell(min(stop, len(prompts)))
            return self._all_finite(torch.cat(parts)).to(images.device)

    def _encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Encode N prompts, (N, E); each distinct one once, and remember it if it is read."""
        import torch

        if not self.reads_prompt:
            return self._network.encode_prompts(prompts)
        with self._lock:
            here = set(prompts) & self._prompts.keys() if self._table is not None else ()
            known = {prompt: self._table[self._prompts[prompt]].clone() for prompt in here}  # type: ignore[index]
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        at_once = 1 if self.batch_invariant else _ENCODED_AT_ONCE
        for start in range(0, len(new), at_once):
            part = new[start : start + at_once]
            with torch.no_grad():
                known |= dict(zip(part, self._network.encode_prompts(part), strict=True))
        with self._lock, torch.inference_mode():  # as the table is made in it, it can be written in it alone
            for prompt, encoded in known.items():
                if self._table is None:
                    self._table = encoded.new_empty((_CACHED_PROMPTS, *encoded.shape))
                if (row := self._prompts.pop(prompt, None)) is None:
                    full = len(self._prompts) == _CACHED_PROMPTS
                    row = self._prompts.popitem(last=False)[1] if full else len(self._prompts)
                    self._table[row] = encoded
                self._prompts[prompt] = row
        return torch.stack([known[prompt] for prompt in prompts])


class Plain(Protocol):
    """The one method that an author has to write.

    The object may also have `log_odds_per_point` (else None) and `reads_prompt` (else True).
    """

    def score(self, images: Any, prompts: Any, /) -> Any:
        """Score a list of N decoded images (upright, mode RGB) for N prompts.

        Returns N numbers, higher is better, in whatever holds numbers: a list, an array, a tensor. In a list an
        `ImageError` may stand in place of the number of an image that cannot be scored.
        """
        ...


class PlainScorer(PreferenceScorer):
    """Wraps anybody's scorer: files, batches, ranks and clear errors; one thread at a time calls it."""

    def __init__(
        self, plain: Plain, info: ScorerInfo, *, batch_size: int | None = None, batch_invariant: bool = False
    ) -> None:
        """Use `load_scorer`; this is for objects that a program has made itself."""
        super().__init__(
            info,
            log_odds_per_point=getattr(plain, "log_odds_per_point", None),
            reads_prompt=getattr(plain, "reads_prompt", True),
            batch_size=batch_size,
            batch_invariant=batch_invariant,
            preprocessing=None,
        )
        self._plain = plain
        self._scoring = threading.Lock()  # its author was not asked to think of threads

    def score_prepared(self, images: Sequence[Prepared], prompts: Sequence[str]) -> Tensor:
        """N decoded images and N prompts -> (N,) float32 on the CPU; NaN where there is an error instead."""
        return self._numbers(self._ask(images, prompts))

    def outcomes(self, images: Sequence[Prepared], prompts: Sequence[str]) -> list[float | ImageError]:
        """N decoded images and N prompts -> N scores, or errors."""
        found = self._ask(images, prompts)
        both = zip(found, self._numbers(found).tolist(), strict=True)
        return [own if isinstance(own, ImageError) else score for own, score in both]

    @staticmethod
    def _numbers(found: list[float | ImageError]) -> Tensor:
        import torch

        return torch.tensor([math.nan if isinstance(own, ImageError) else own for own in found], dtype=torch.float32)

    def _ask(self, images: Sequence[Prepared], prompts: Sequence[str]) -> list[float | ImageError]:
        import torch

        if self.batch_invariant and len(images) > 1:
            return [self._ask([image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)]
        with self._scoring, torch.no_grad(), own_code(f"{self.info.name}: score"):
            found = self._plain.score(list(images), list(prompts))
        try:
            values = [value if isinstance(value, ImageError) else float(value) for value in found]
        except (OverflowError, TypeError, ValueError, RuntimeError) as error:
            self._fail(f"a {type(found).__name__} that does not hold numbers ({error})", len(images))
        if len(values) != len(images):
            self._fail(f"{len(values)} numbers", len(images))
        return values

    def _score_tensor(self, images: Tensor, prompts: list[str], *, grad: bool, tell: Callable[[int], None]) -> Tensor:
        if grad:
            raise InputError("grad", f"is True, but {self.info.name} has no gradient", cure="score without it")
        return as_float(images[:0]).new_tensor(self._scores([*images], prompts, tell))

    def _fail(self, found: str, count: int) -> NoReturn:
        what = f"returned {found} for {count} images"
        raise ModelError(f"{self.info.name}: score", what, expected="one number for each", cure="mend the scorer")


def load_scorer(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    arch: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    antialias: bool | None = None,
    batch_invariant: bool = False,
) -> PreferenceScorer:
    """Load a preference model, once; keep the result and use it for every score.

    Args:
        name_or_path: a name such as `mini` or `hps-v2.1`, a checkpoint file (`.pt` with a state dict, `.safetensors`),
            `judge:ENDPOINT/MODEL`, or `FILE.py:NAME`, a scorer of your own (docs/baselines.md); that file is run.
        arch: open_clip architecture of a local checkpoint; ViT-H-14 if not given.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: the fastest that the hardware has. Scores are float32 in every
            case; see docs/scoring.md for how far they move.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`.
        batch_size: images per step of the network; if not given 8 on a CPU, 64 elsewhere. Changes no score in fp32;
            in lower precision by less than the precision itself does (docs/scoring.md).
        antialias: False resizes as torchvision did before 0.17, when the published tables were computed. True is
            what the official code does today, and the default.
        batch_invariant: give each image and prompt the same bits whatever is scored beside it, on one
            kind of machine. On a CPU each image is computed alone on one thread, as many at a time as there are
            processors, and torch is set to one thread for the whole process; elsewhere every step has exactly
            `batch_size` images (16 if not given), filled up with copies. Prompts are encoded alone. What `hpskit
            serve` does; docs/serving.md has its price.

    Raises:
        ModelError: unknown name, no such file, another architecture, damaged, or not on this machine and offline.
        InputError: an option has an impossible value.
    """
    _check_batch_size(batch_size)  # before gigabytes are read
    if isinstance(name_or_path, str) and name_or_path.startswith("judge:"):
        if (arch, precision, device, antialias) != (None, "auto", "auto", None):
            found = "are not for a judge, which runs elsewhere"
            raise InputError("arch, precision, device and antialias", found, cure="leave them out")
        judge = resolve_name("hpskit.scoring.judge:Judge")(name_or_path)
        return PlainScorer(judge, judge.info, batch_size=batch_size or _ASKED_AT_ONCE)
    if (plugin := find_plugin(name_or_path)) is None:
        network, info = load_network(name_or_path, arch=arch, precision=precision, device=device, antialias=antialias)
        return NetworkScorer(network, info, batch_size=batch_size, batch_invariant=batch_invariant)
    if arch is not None or antialias is not None:
        raise InputError(
            "arch and antialias", f"are not for {plugin.name}, which is not of hpskit", cure="leave them out"
        )
    made, info = load_plugin(plugin, precision=precision, device=device)
    kind = NetworkScorer if hasattr(made, "encode_images") else PlainScorer
    return kind(made, info, batch_size=batch_size, batch_invariant=batch_invariant)


def streamed(scorer: Scorer) -> PreferenceScorer:
    """Return a scorer that images can be streamed through: itself, or anybody's in a wrapper."""
    return scorer if isinstance(scorer, PreferenceScorer) else PlainScorer(scorer, scorer.info)


def _compute_alone() -> None:
    """Let a thread compute without others: how many share a sum decides in which order it is added."""
    import torch

    torch.set_num_threads(1)


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and not 1 <= batch_size <= _LARGEST_BATCH:
        raise InputError("batch_size", f"is {batch_size}", expected=f"1 to {_LARGEST_BATCH:,}")


def _check_prompt(place: str, text: object) -> str:
    if not isinstance(text, str):
        found, cure = f"is of type {type(text).__name__}", "images come first in score, the prompt in rank"
        raise InputError(place, found, expected="a string", cure=cure)
    if not text.strip():
        raise InputError(place, "is empty", expected="the text that the image was made for")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(place, f"is not Unicode text ({error})", cure="mend its encoding") from error
    return text


def one_by_one(images: Images) -> list[Any]:
    """Return images one by one; see `PreferenceScorer.score`."""
    import torch

    if isinstance(images, torch.Tensor | np.ndarray):
        column = images.ndim == 4 or (images.ndim == 1 and isinstance(images, np.ndarray))
        return [*images] if column else [images]
    if isinstance(images, str | os.PathLike | Image.Image | Encoded):
        return [images]
    _check_column("images", images, "an image, or something that holds images one by one")
    return [*images]


def _check_column(place: str, values: object, expected: str) -> None:
    """Refuse what is not gone through value by value, or not in the order of its values, such as a table or a set."""
    ordered = isinstance(values, Iterable) and not isinstance(values, bytes | Mapping | set | frozenset)
    table = getattr(values, "ndim", 1) != 1
    if not ordered or table:
        cure = "choose one column of the table" if table else "give a list"
        raise InputError(place, f"are of type {type(values).__name__}", expected=expected, cure=cure)


def _aligned(prompts: str | Iterable[str], count: int) -> list[str]:
    """Return one checked prompt for each of `count` images."""
    if isinstance(prompts, str):
        return [_check_prompt("prompts", prompts)] * count
    _check_column("prompts", prompts, "a string, or one for each image")
    texts = [_check_prompt(f"prompts[{index}]", text) for index, text in enumerate(prompts)]
    if len(texts) != count:
        raise InputError("prompts", f"are {len(texts)} for {count} images", expected="one for each, or one string")
    return texts


def _picture(image: ImageLike, value_range: tuple[float, float], layout: Layout | None) -> Path | str:
    """Return what a page shows of an image later: its file, or a small copy, so that memory is let go."""
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if not isinstance(image, Encoded | Image.Image):
        image = to_image(as_pixels(image, dimensions=3, value_range=value_range, layout=layout))
    return thumbnail(image)
