"""Whether inputs fit a model, said in one line before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.errors import FeedError


class FeedCheck:
    """The names, dtypes and shapes that a model takes.

    Args:
        inputs: Of the model. A symbolic dimension takes any size, the same wherever its name stands.
    """

    def __init__(self, inputs: Sequence[TensorSpec]):
        self._inputs = tuple(inputs)
        # What one call needs, looked up once: name, dtype, whether it can hold NaN, and the shape where it is static.
        self._rows = [
            (spec, spec.name, np.dtype(spec.dtype), np.dtype(spec.dtype).kind in "fc", _static(spec)) for spec in inputs
        ]

    def __call__(self, feeds: Mapping[str, Array]) -> None:
        """Check one call's inputs.

        Raises:
            FeedError: An input is missing, unknown, of another type, dtype or shape, or not finite.
        """
        if len(feeds) != len(self._rows):
            raise FeedError(self._wrong_names(feeds))
        bound: dict[str, int] = {}
        for spec, name, dtype, floating, static in self._rows:
            if name not in feeds:
                raise FeedError(self._wrong_names(feeds))
            value = feeds[name]
            if type(value) is not np.ndarray or (value.dtype is not dtype and value.dtype != dtype):
                raise FeedError(_wrong_type(spec, value))
            if value.shape != static and (static is not None or not _binds(spec, value.shape, bound)):
                raise FeedError(_wrong_shape(spec, value, bound))
            if floating and not np.isfinite(value).all():
                where = np.argwhere(~np.isfinite(value))[0].tolist()
                found = value[tuple(where)]
                raise FeedError(f"input {name}: expected finite values, found {found} at {where}")

    def _wrong_names(self, feeds: Mapping[str, Array]) -> str:
        wanted = ", ".join(spec.name for spec in self._inputs) or "none"
        return f"expected the inputs {wanted}; found {', '.join(map(str, feeds)) or 'none'}"


def _static(spec: TensorSpec) -> tuple[int | str, ...] | None:
    return spec.shape if all(isinstance(size, int) for size in spec.shape) else None


def _binds(spec: TensorSpec, shape: tuple[int, ...], bound: dict[str, int]) -> bool:
    """Whether a shape fits, given what the names stand for in the inputs before it; adds what it binds."""
    if len(shape) != len(spec.shape):
        return False
    for wanted, found in zip(spec.shape, shape, strict=True):
        if found != (wanted if isinstance(wanted, int) else bound.setdefault(wanted, found)):
            return False
    return 0 not in shape


def _wrong_type(spec: TensorSpec, value: object) -> str:
    wanted = f"input {spec.name}: expected {_spell(spec)}"
    if not isinstance(value, np.ndarray):
        return f"{wanted} as a NumPy array, found {type(value).__name__}; numpy.asarray(value, '{spec.dtype}')"
    return f"{wanted}, found {value.dtype} {list(value.shape)}; convert it: {spec.name}.astype('{spec.dtype}')"


def _wrong_shape(spec: TensorSpec, value: Array, bound: Mapping[str, int]) -> str:
    text = f"input {spec.name}: expected {_spell(spec)}, found {value.dtype} {list(value.shape)}"
    known = {name: size for name, size in bound.items() if name in spec.shape}
    if len(value.shape) == len(spec.shape) and known:
        return f"{text}, where {', '.join(f'{name} is {size}' for name, size in known.items())}"
    if len(value.shape) == len(spec.shape) - 1 and _binds(spec, (1, *value.shape), {}):
        return f"{text}; it lacks the batch axis: {spec.name}[None]"
    return text


def _spell(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"
