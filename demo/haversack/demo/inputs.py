"""Inputs to try: a bundle's golden vectors, an uploaded `.npz`, or an uploaded picture."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from haversack.runtimes.bundle import Bundle
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import FeedError
from haversack.runtimes.manifest import Manifest

Feeds = dict[str, Array]


def golden(bundle: Bundle) -> list[Feeds]:
    """The inputs of the golden vectors of the first variant that takes the model's own dtypes, each once."""
    wanted = {tensor.name: tensor.dtype for tensor in bundle.manifest.inputs}
    for variant in bundle.manifest.variants:
        if {tensor.name: tensor.dtype for tensor in variant.inputs} == wanted and variant.golden:
            return [inputs for inputs, _ in bundle.golden(variant.id)]
    return []


def from_npz(data: bytes, manifest: Manifest) -> list[Feeds]:
    """The samples of an `.npz` whose arrays are named like the model's inputs, at most 1,000.

    Raises:
        FeedError: It is no `.npz`, or an input is missing.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, KeyError) as error:
        raise FeedError(f"this is no .npz of plain arrays: {error}") from None
    missing = [tensor.name for tensor in manifest.inputs if tensor.name not in arrays]
    if missing:
        raise FeedError(f"the file has no array {missing[0]!r}; it has {', '.join(arrays)}")
    named = {tensor.name: arrays[tensor.name].astype(tensor.dtype) for tensor in manifest.inputs}
    count = min(1000, *(len(array) for array in named.values()))
    return [{name: array[index : index + 1] for name, array in named.items()} for index in range(count)]


def from_picture(data: bytes, manifest: Manifest) -> Feeds:
    """A picture through the bundle's own preprocessing.

    Raises:
        FeedError: The bundle says no preprocessing, or this is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    if manifest.preprocess is None or len(manifest.inputs) != 1:
        raise FeedError("this bundle says no preprocessing, so a picture cannot become its input; give an .npz")
    tensor = manifest.inputs[0]
    try:
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise FeedError(f"this is no picture: {error}") from None
    return {tensor.name: manifest.preprocess.fit(tensor.shape, tensor.dtype).apply(pixels)[None]}


def as_picture(feeds: Mapping[str, Array]) -> Array | None:
    """The first input as a picture of grey or colour values in 0..255, or None where it has no such form."""
    array = np.asarray(next(iter(feeds.values()))[0], np.float64)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3) or min(array.shape[:2]) < 4:
        return None
    low, high = float(array.min()), float(array.max())
    return np.asarray(np.rint((array - low) / max(high - low, 1e-9) * 255), np.uint8)
