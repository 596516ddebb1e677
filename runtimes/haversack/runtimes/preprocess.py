"""How an image becomes a model's input: one description, applied in calibration, evaluation and on the device.

The steps, in this order: colour (grayscale, RGB, BGR), resize, then each pixel value v in 0..255 becomes
(v * scale - mean) / std, computed in double precision and rounded once to the input's dtype; last, the layout.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.errors import FeedError
from haversack.runtimes.resample import Interpolation, resize

ResizeRule = Literal["stretch", "shortest-then-center-crop", "letterbox"]
ColorOrder = Literal["rgb", "bgr", "grayscale"]
Layout = Literal["NHWC", "NCHW", "NHW"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "resize": get_args(ResizeRule),
    "interpolation": get_args(Interpolation),
    "color": get_args(ColorOrder),
    "layout": get_args(Layout),
    "dtype": ("float32", "float16", "float64", "uint8", "int8", "int32"),
}


@dataclass(frozen=True)
class Preprocess:
    """From an 8-bit image to one sample of a model's input.

    What is None is taken from the model's input by `fit`.

    Attributes:
        size: Height and width of the input, in pixels.
        resize: `stretch` ignores the aspect ratio. `shortest-then-center-crop` covers size / crop_fraction with the
            image, keeping its aspect ratio, and cuts the centre out. `letterbox` fits the image inside, keeping its
            aspect ratio, and fills the rest with `pad`.
        crop_fraction: The part of the shorter side that a center crop keeps: 224 of 256 is 0.875.
        interpolation: `nearest`, or `bilinear` with Pillow's antialiasing (see `haversack.runtimes.resample`).
        pad: Pixel value, 0..255, beside a letterboxed image.
        color: Order of the channels. Grayscale is ITU-R BT.601 luma as Pillow rounds it.
        scale: Factor on the pixel values, applied first.
        mean: Subtracted after that, one for all channels or one each, in the order of `color`.
        std: Divided by after that, one for all channels or one each.
        layout: Order of the axes: `NHWC`, `NCHW`, or `NHW` for grayscale without a channel axis.
        dtype: NumPy's name of the element type.
    """

    size: tuple[int, int] | None = None
    resize: ResizeRule = "stretch"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"
    pad: int = 0
    color: ColorOrder | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (value is None and name in ("color", "layout", "dtype")):
                raise FeedError(f"preprocess: {name} must be one of {', '.join(choices)}; found {value!r}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise FeedError(f"preprocess: size must be height and width in pixels; found {self.size}")
        if not 0 < self.crop_fraction <= 1:
            raise FeedError(f"preprocess: crop_fraction must be above 0 and at most 1; found {self.crop_fraction}")
        if not 0 <= self.pad <= 255:
            raise FeedError(f"preprocess: pad must be a pixel value from 0 to 255; found {self.pad}")
        numbers = (self.scale, *self.mean, *self.std)
        if not np.isfinite(numbers).all() or self.scale == 0 or 0 in self.std:
            raise FeedError("preprocess: scale, mean and std must be finite, and scale and std not 0")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or (len(values) == 3 and self.color == "grayscale"):
                raise FeedError(f"preprocess: {name} needs one value, or one a channel; found {len(values)}")

    def fit(self, shape: Sequence[int | str], dtype: str) -> Preprocess:
        """Complete the description from a model's input, and check that it fits it.

        Args:
            shape: Of the input, its batch axis first; names are symbolic dimensions.
            dtype: Of the input.

        Raises:
            FeedError: The input is no image, it leaves something open, or the description contradicts it.
        """
        layout = self.layout or _layout(shape)
        if len(shape) != len(layout):
            raise FeedError(f"preprocess: layout {layout} does not fit an input of shape {list(shape)}")
        if shape[0] not in (1,) and not isinstance(shape[0], str):
            raise FeedError(f"preprocess: an image is one row, and the input takes a fixed batch of {shape[0]}")
        sizes = dict(zip(layout, shape, strict=True))
        found = (sizes["H"], sizes["W"])
        size = self.size
        if size is None:
            if isinstance(found[0], str) or isinstance(found[1], str):
                raise FeedError(f"preprocess: the input's size {found[0]}x{found[1]} is symbolic; say size=HxW")
            size = (found[0], found[1])
        if any(isinstance(one, int) and one != given for one, given in zip(found, size, strict=True)):
            raise FeedError(f"preprocess: size {size[0]}x{size[1]} is not the input's {found[0]}x{found[1]}")
        channels = sizes.get("C", 1)
        color = self.color or ("grayscale" if channels == 1 else "rgb")
        if isinstance(channels, int) and channels != (1 if color == "grayscale" else 3):
            raise FeedError(f"preprocess: {color} images do not fit an input of {channels} channels")
        if self.dtype is not None and self.dtype != dtype:
            raise FeedError(f"preprocess: dtype {self.dtype} is not the input's {dtype}")
        fitted = dataclasses.replace(self, size=size, layout=layout, color=color, dtype=dtype)
        fitted._table  # noqa: B018  (an integer dtype that cannot hold the values is an error now)
        return fitted

    def apply(self, image: Array) -> Array:
        """Turn one image into one sample.

        Args:
            image: uint8 [H, W], [H, W, 1] or [H, W, 3], RGB.

        Returns:
            The sample without its batch axis: [H, W, C], [C, H, W] or [H, W], as `layout` says.

        Raises:
            FeedError: The image has another dtype or shape, or the description is incomplete (see `fit`).
        """
        if self.size is None or self.layout is None or self.color is None or self.dtype is None:
            raise FeedError("preprocess: size, layout, color and dtype are open; fit it to the model's input first")
        if image.dtype != np.uint8:
            raise FeedError(f"preprocess: expected a uint8 image, found {image.dtype.name}")
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
            raise FeedError(f"preprocess: expected an image [H, W], [H, W, 1] or [H, W, 3], found {list(image.shape)}")
        image = self._resized(_colored(image, self.color))
        table = self._table
        channels: list[Array] = [
            table[min(channel, len(table) - 1)][image[:, :, channel]] for channel in range(image.shape[2])
        ]
        if self.layout == "NHW":
            return channels[0]
        return np.stack(channels, axis=0 if self.layout == "NCHW" else 2)

    def _resized(self, image: Array) -> Array:
        assert self.size is not None
        height, width = self.size
        rows, columns = image.shape[:2]
        if (rows, columns) == self.size and (self.resize != "shortest-then-center-crop" or self.crop_fraction == 1):
            return image
        if self.resize == "stretch":
            return resize(image, height, width, self.interpolation)
        if self.resize == "letterbox":
            ratio = min(height / rows, width / columns)
            inner = (max(round(rows * ratio), 1), max(round(columns * ratio), 1))
            filled = np.full((height, width, image.shape[2]), self.pad, np.uint8)
            top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
            filled[top : top + inner[0], left : left + inner[1]] = resize(image, *inner, self.interpolation)
            return filled
        cover = (round(height / self.crop_fraction), round(width / self.crop_fraction))
        if cover[0] * columns >= cover[1] * rows:  # the height binds; the other side is rounded down
            outer = (cover[0], columns * cover[0] // rows)
        else:
            outer = (rows * cover[1] // columns, cover[1])
        image = resize(image, *outer, self.interpolation)
        top, left = round((outer[0] - height) / 2), round((outer[1] - width) / 2)
        return image[top : top + height, left : left + width]

    @functools.cached_property
    def _table(self) -> Array:
        """The input value of each pixel value: [1 or 3, 256] of `dtype`."""
        pixels = np.arange(256, dtype=np.float64)[None, :] * self.scale
        values = (pixels - np.array(self.mean)[:, None]) / np.array(self.std)[:, None]
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu":
            values = np.rint(values)
            limits = np.iinfo(dtype)
            if values.min() < limits.min or values.max() > limits.max:
                raise FeedError(
                    f"preprocess: values {values.min():g} to {values.max():g} do not fit an input of {dtype.name}"
                )
        elif np.abs(values).max() > np.finfo(dtype).max:
            raise FeedError(f"preprocess: values up to {np.abs(values).max():g} do not fit an input of {dtype.name}")
        fitting: Array = values.astype(dtype)
        return fitting

    def to_json(self) -> dict[str, Any]:
        """The description as JSON values; `from_json` reads it back."""
        return {
            field.name: list(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocess:
        """Read a description; what it leaves out has its default.

        Raises:
            FeedError: A key is unknown, or a value is of the wrong type or out of range.
        """
        if not isinstance(values, Mapping):
            raise FeedError(f"preprocess: expected a JSON object, found {type(values).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = [key for key in values if key not in known]
        if unknown:
            raise FeedError(f"preprocess: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return cls(**{key: _typed(key, value) for key, value in values.items()})

    @classmethod
    def from_spec(cls, text: str) -> Preprocess:
        """Read what the command line's `--preprocess` takes.

        Args:
            text: The path of a JSON file; or a preset's name (see `PRESETS`), `key=value` pairs, or a preset and then
                pairs that change it, separated by commas: `imagenet,size=224x224`, `scale=1/255,mean=0.5,std=0.5`.
                A value a channel is separated by colons: `mean=0.485:0.456:0.406`.

        Raises:
            FeedError: It is none of these.
        """
        if text.endswith(".json"):
            try:
                values = json.loads(Path(text).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise FeedError(f"preprocess: cannot read {text}: {error}") from None
            return cls.from_json(values)
        values = {}
        for position, part in enumerate(text.split(",")):
            key, equals, value = part.strip().partition("=")
            if equals:
                values[key.strip()] = _parsed(key.strip(), value.strip())
            elif position == 0 and key in PRESETS:
                values.update(PRESETS[key].to_json())
            else:
                raise FeedError(
                    f"preprocess: {key!r} is no preset and no key=value; presets are {', '.join(PRESETS)}, "
                    "and a file is named *.json"
                )
        return cls.from_json(values)


def _layout(shape: Sequence[int | str]) -> Layout:
    """The layout that a shape itself tells, by an axis of 1 or 3 channels."""
    if len(shape) == 3:
        return "NHW"
    if len(shape) != 4:
        raise FeedError(f"preprocess: an input of shape {list(shape)} takes no images")
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        raise FeedError(f"preprocess: the channels of {list(shape)} cannot be told; say layout=NHWC or layout=NCHW")
    return "NCHW" if first else "NHWC"


def _colored(image: Array, color: ColorOrder) -> Array:
    """The image in another order of colours; grayscale as Pillow's convert("L"): 16 fractional bits, rounded."""
    if color == "grayscale":
        if image.shape[2] == 1:
            return image
        luma = image @ np.array([19595, 38470, 7471], np.uint32)  # 0.299, 0.587, 0.114 in units of 2**-16
        return ((luma + 0x8000) >> 16).astype(np.uint8)[:, :, None]
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image[:, :, ::-1] if color == "bgr" else image


def _parsed(key: str, value: str) -> object:
    """A value of the command line as JSON has it."""
    try:
        if key == "size":
            return [int(part) for part in (value.split("x") if "x" in value else [value, value])]
        if key in ("mean", "std"):
            return [_number(part) for part in value.split(":")]
        if key in ("scale", "crop_fraction"):
            return _number(value)
        if key == "pad":
            return int(value)
    except (ValueError, ZeroDivisionError):
        raise FeedError(f"preprocess: {key}={value} is not a number this key takes") from None
    return value


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)


def _typed(key: str, value: Any) -> Any:
    """A JSON value as the dataclass has it."""
    if value is None and key in ("size", "color", "layout", "dtype"):
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in ("scale", "crop_fraction") and number:
        return float(value)
    if key == "pad" and number and isinstance(value, int):
        return value
    if key in _CHOICES and isinstance(value, str):
        return value
    if key in ("size", "mean", "std") and isinstance(value, list | tuple):
        kinds = (int,) if key == "size" else (int, float)
        if all(isinstance(one, kinds) and not isinstance(one, bool) for one in value):
            return tuple(value) if key == "size" else tuple(float(one) for one in value)
    raise FeedError(f"preprocess: {key} has the wrong type: {value!r}")


PRESETS: dict[str, Preprocess] = {
    # pixels as they are
    "raw-0-255": Preprocess(),
    # 0..1
    "unit": Preprocess(scale=1 / 255),
    # -1..1, MobileNet's
    "signed-unit": Preprocess(scale=1 / 127.5, mean=(1.0,)),
    # torchvision's classification presets: shorter side to 256, centre 224 (at an input of 224)
    "imagenet": Preprocess(
        resize="shortest-then-center-crop",
        crop_fraction=0.875,
        scale=1 / 255,
        color="rgb",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    # Caffe's, as VGG and the first ResNets were trained
    "imagenet-bgr": Preprocess(
        resize="shortest-then-center-crop",
        crop_fraction=0.875,
        color="bgr",
        mean=(103.939, 116.779, 123.68),
    ),
}
"""What `--preprocess` knows by name. Size, layout and dtype come from the model's input."""
