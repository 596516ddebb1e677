"""Inputs that a Core ML package takes as images: pixels of 0..255, from which the program computes the model's input.

An app then hands over a `CVPixelBuffer` as the camera gives it. Each value of the input is pixel * scale + bias, as in
coremltools' `ImageType`; here both may be one number a channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import UsageError, VerificationError
from haversack.convert.hub.shapes import static_shape
from haversack.runtimes.engines import Array
from haversack.runtimes.preprocess import Preprocess

Color = Literal["rgb", "bgr", "grayscale"]

OFF = 0.05
"""How far a computed pixel may be from a whole number: float32's rounding of scale and bias stays far below."""

CHANNELS_LAST = (0, 3, 1, 2)
"""`image = input.transpose(...)` for an input [1, H, W, C]; images are [1, C, H, W] in a program."""


@dataclass(frozen=True)
class Image:
    """One image input.

    Attributes:
        color: Order of the channels that the input wants.
        scale: Factor on the pixels, one or one a channel, in the order of `color`.
        bias: Added after that, likewise.
        permutation: `image = input.transpose(permutation)`; None where the input has its channels first.
    """

    color: Color
    scale: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = (0.0,)
    permutation: tuple[int, ...] | None = None

    def numbers(self) -> tuple[Array, Array]:
        """Scale and bias as float32 [1, C or 1, 1, 1]."""
        scale, bias = (np.array(each, np.float32).reshape(1, -1, 1, 1) for each in (self.scale, self.bias))
        return scale, bias

    def values(self, pixels: Array) -> Array:
        """The model's input, float32, from pixels [1, C, H, W]."""
        scale, bias = self.numbers()
        made = pixels.astype(np.float32) * scale + bias
        return made if self.permutation is None else made.transpose(np.argsort(self.permutation))

    def pixels(self, values: Array) -> Array:
        """The pixels, float32 [1, C, H, W], that give this input of the model.

        Raises:
            VerificationError: There are none: the data was prepared with another scale or bias.
        """
        image = values if self.permutation is None else values.transpose(self.permutation)
        scale, bias = self.numbers()
        exact = (image.astype(np.float64) - bias) / scale
        whole = np.clip(np.rint(exact), 0, 255)
        if image.size and np.abs(exact - whole).max() > OFF:
            raise VerificationError(
                "the data is not what --image-input makes of pixels from 0 to 255: its scale and bias are others"
            )
        return whole.astype(np.float32)

    def made_up(self, shape: Sequence[int], rng: np.random.Generator) -> Array:
        """The model's input for random pixels."""
        size = tuple(shape) if self.permutation is None else tuple(shape[axis] for axis in self.permutation)
        return self.values(rng.integers(0, 256, size))


def images_of(texts: Sequence[str], preprocess: Preprocess | None, model: ir.Model) -> dict[str, Image]:
    """The image inputs from `NAME[=COLOR][,scale=S][,bias=B]`; S and B may be one a channel: `1/2/3`.

    Where only the name is given, colour, scale and bias are what `preprocess` does to pixels.

    Raises:
        UsageError: One is written otherwise, or the input cannot be an image.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    found: dict[str, Image] = {}
    for text in texts:
        name, _, spec = text.partition("=")
        if name not in inputs:
            raise UsageError(f"--image-input {name}: the model has no such input; it has {', '.join(inputs)}")
        parts = [part.partition("=") for part in spec.split(",")]
        given = {"color": "", **{key if equals else "color": value if equals else key for key, equals, value in parts}}
        if not spec and preprocess is not None:
            scale = tuple(preprocess.scale / std for std in preprocess.std)
            bias = tuple(-mean / std for mean, std in _pairs(preprocess.mean, preprocess.std))
            image = Image(preprocess.color or _color(inputs[name]), scale, bias)
        else:
            unknown = given.keys() - {"color", "scale", "bias"}
            color = given["color"] or _color(inputs[name])
            if unknown or color not in get_args(Color):
                raise UsageError(
                    f"--image-input {text!r}: write it as NAME=rgb,scale=0.0039,bias=-1 (or bgr, grayscale)"
                )
            scale, bias = (_numbers(text, given.get(key, default)) for key, default in (("scale", "1"), ("bias", "0")))
            image = Image(color, scale, bias)  # type: ignore[arg-type]
        found[name] = _fitted(name, image, inputs[name])
    return found


def _pairs(a: Sequence[float], b: Sequence[float]) -> list[tuple[float, float]]:
    count = max(len(a), len(b))
    return [(a[n % len(a)], b[n % len(b)]) for n in range(count)]


def _numbers(text: str, given: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in given.split("/"))
    except ValueError:
        numbers = ()
    if not numbers or not np.isfinite(numbers).all():
        raise UsageError(f"--image-input {text!r}: scale and bias are numbers, or one a channel as 1/2/3")
    return numbers


def _color(value: ir.Value) -> Color:
    shape = static_shape(value) or ()
    return "grayscale" if len(shape) == 4 and 1 in (shape[1], shape[3]) and 3 not in (shape[1], shape[3]) else "rgb"


def _fitted(name: str, image: Image, value: ir.Value) -> Image:
    shape, channels = static_shape(value), 1 if image.color == "grayscale" else 3
    if shape is None:
        raise UsageError(f"--image-input {name}: an image has one size; fix the input's dimensions with --dim")
    if value.dtype != ir.DataType.FLOAT or len(shape) != 4 or shape[0] != 1 or channels not in (shape[1], shape[3]):
        takes = f"[1, {channels}, H, W] or [1, H, W, {channels}]"
        raise UsageError(f"--image-input {name}: a {image.color} image is float32 {takes}; the input is {list(shape)}")
    if any(len(numbers) not in (1, channels) for numbers in (image.scale, image.bias)) or 0 in image.scale:
        raise UsageError(f"--image-input {name}: scale and bias are one number or {channels}, and scale is not 0")
    permutation = None if shape[1] == channels else CHANNELS_LAST
    return Image(image.color, image.scale, image.bias, permutation)


def described(images: Mapping[str, Image]) -> list[str]:
    """What a user should know of image inputs."""
    return [
        f"input {name!r} is a {image.color} image; the program computes pixel * scale + bias, with scale "
        f"{_said(image.scale)} and bias {_said(image.bias)}."
        for name, image in images.items()
    ]


def _said(numbers: Sequence[float]) -> str:
    return "/".join(f"{number:g}" for number in numbers)
