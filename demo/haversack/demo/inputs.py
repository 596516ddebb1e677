"""Inputs to try: a bundle's golden vectors, an uploaded `.npz`, or an uploaded picture."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from haversack.demo import edges
from haversack.runtimes.bundle import Bundle
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import FeedError
from haversack.runtimes.manifest import Manifest

MOST_SAMPLES = 1000
"""Samples of an `.npz` that can be chosen from."""

SHOWN_PIXELS = 160
"""Width and height of a picture on the page."""


@dataclass(frozen=True)
class Sample:
    """One input of the model.

    Attributes:
        feeds: One array an input, by name, as the model takes it.
        label: The class that the data says it is; None where it says nothing.
    """

    feeds: Mapping[str, Array]
    label: int | None = None


def golden(bundle: Bundle) -> list[Sample]:
    """The inputs of the golden vectors of the first variant that takes them as the model does.

    A vector of another size, which a resizable variant also has, is no example to look at, and others do not take it.
    """
    manifest = bundle.manifest
    for variant in bundle.manifest.variants:
        if variant.golden and edges.same_inputs(manifest, variant):
            dtypes = {tensor.name: tensor.dtype for tensor in manifest.inputs}
            vectors = [feeds for feeds, _ in bundle.golden(variant.id)]
            usual = {name: value.shape for name, value in vectors[0].items()}
            return [
                Sample({name: value.astype(dtypes[name]) for name, value in feeds.items()})
                for feeds in vectors
                if {name: value.shape for name, value in feeds.items()} == usual
            ]
    return []


def from_npz(data: bytes, name: str, manifest: Manifest) -> list[Sample]:
    """The samples of an `.npz` whose arrays are named like the model's inputs, at most `MOST_SAMPLES`.

    Raises:
        HaversackError: It is no `.npz`, or its arrays do not fit the inputs.
    """
    from haversack.convert.data import open_data

    with tempfile.TemporaryDirectory(prefix="haversack-demo-") as folder:
        path = Path(folder) / (Path(name).stem + ".npz")
        path.write_bytes(data)
        samples = open_data(path, [tensor.spec for tensor in manifest.inputs], manifest.preprocess).samples()
        return [Sample(feeds, _label(labels)) for feeds, labels in islice(samples, MOST_SAMPLES)]


def from_picture(data: bytes, manifest: Manifest) -> Sample:
    """A picture through the bundle's own preprocessing.

    Raises:
        FeedError: The bundle says no preprocessing, or this is no picture.
    """
    from PIL import Image

    if manifest.preprocess is None or len(manifest.inputs) != 1:
        raise FeedError("this bundle says no preprocessing, so a picture cannot become its input; give an .npz")
    tensor = manifest.inputs[0]
    try:
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FeedError(f"this is no picture: {error}") from None
    return Sample({tensor.name: manifest.preprocess.fit(tensor.shape, tensor.dtype).apply(pixels)[None]})


def as_picture(feeds: Mapping[str, Array]) -> Array | None:
    """The first input as a uint8 picture [height, width, 1 or 3], or None where it has no such form.

    Values are stretched to 0..255, and small pictures enlarged by whole pixels to `SHOWN_PIXELS`.
    """
    array = np.asarray(next(iter(feeds.values())))
    if array.ndim != 4 or len(array) != 1 or array.dtype.kind not in "fiu":
        return None
    array = array[0].astype(np.float64)
    if array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.shape[2] not in (1, 3) or min(array.shape[:2]) < 4 or not np.isfinite(array).all():
        return None
    low, high = float(array.min()), float(array.max())
    pixels = np.rint((array - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    times = max(1, SHOWN_PIXELS // max(pixels.shape[:2]))
    return np.asarray(pixels.repeat(times, axis=0).repeat(times, axis=1))


def _label(labels: Array | None) -> int | None:
    return int(labels[0]) if labels is not None and len(labels) == 1 else None
