"""Seeded inputs for a model that comes without data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from haversack.convert.data.arrays import ArrayDataset
from haversack.convert.data.dataset import update_with_arrays
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array, TensorSpec

if TYPE_CHECKING:
    from haversack.convert.image_inputs import Image


def synthetic(
    inputs: Sequence[TensorSpec], count: int, seed: int, images: Mapping[str, Image] | None = None
) -> ArrayDataset:
    """Make `count` samples: floats are standard normal, integers 0 or 1, booleans either, `images` random pixels.

    Integers stay that small because they are often indices, and every table has two rows. The leading dimension may
    be symbolic; others must be sizes.

    Raises:
        DataError: Another dimension is symbolic, or a dtype has no random values.
    """
    if not inputs:
        raise DataError(
            "the model has no inputs, so there is nothing to run it on; --no-verify converts it all the same"
        )
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for spec in inputs:
        symbolic = [size for size in spec.shape[1:] if isinstance(size, str)]
        if symbolic:
            raise DataError(f"{spec.name}: made-up inputs need sizes, and {symbolic[0]} is symbolic; give data instead")
        first = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else 1
        rest = [int(size) for size in spec.shape[1:]]
        shape = (count * first, *rest) if spec.shape else (count,)
        image = (images or {}).get(spec.name)
        if image is None:
            arrays[spec.name] = _values(rng, spec, shape)
        else:
            arrays[spec.name] = np.concatenate([image.made_up((1, *rest), rng) for _ in range(count)])
    digest = hashlib.sha256()
    update_with_arrays(digest, arrays)
    return ArrayDataset(
        arrays, inputs, None, source=f"synthetic inputs (seed {seed})", sha256=digest.hexdigest(), synthetic=True
    )


def _values(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(dtype)
    raise DataError(f"{spec.name}: no made-up values for {spec.dtype}; give data instead")
