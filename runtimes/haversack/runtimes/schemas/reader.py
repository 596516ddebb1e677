"""Reading JSON strictly: every key is asked for by name and type, and a key that nobody asked for is an error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from haversack.runtimes.errors import BundleError

T = TypeVar("T")
_KINDS: dict[type, str] = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def load_json(text: str | bytes, where: str) -> Any:
    """Parse JSON in which no key stands twice and every number is finite.

    Raises:
        BundleError: It is not that.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice in one object")
        return found

    def refused(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=unique, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not valid JSON: {error or 'nested too deeply'}") from None


class Reader:
    """One JSON object and the place it stands in, for messages.

    Args:
        values: The object.
        where: Such as `manifest.json: variants[0]`.
    """

    def __init__(self, values: object, where: str):
        self.where = where
        if not isinstance(values, dict):
            raise BundleError(f"{where}: expected an object, found {type(values).__name__}")
        self._values: dict[str, Any] = values
        self._asked: set[str] = set()

    def fail(self, message: str) -> NoReturn:
        """Refuse the object.

        Raises:
            BundleError: Always.
        """
        raise BundleError(f"{self.where}: {message}")

    def get(self, key: str, kind: type[T], *, optional: bool = False) -> T | None:
        """A string, integer, number or boolean; None is taken for an absent optional one.

        Raises:
            BundleError: It is missing or of another type.
        """
        value = self._take(key, optional)
        if value is None:
            return None
        return _typed(value, kind, f"{self.where}: {key}")

    def need(self, key: str, kind: type[T]) -> T:
        """As `get`, for a key that must be there."""
        value = self.get(key, kind)
        assert value is not None
        return value

    def child(self, key: str, read: Callable[[Reader], T]) -> T:
        """An object, by `read`."""
        value = self._take(key, False)
        return read(Reader(value, f"{self.where}: {key}"))

    def children(self, key: str, read: Callable[[Reader], T]) -> tuple[T, ...]:
        """A list of objects, each by `read`."""
        values = self._list(key)
        return tuple(read(Reader(value, f"{self.where}: {key}[{n}]")) for n, value in enumerate(values))

    def mapping(self, key: str, read: Callable[[Reader], T]) -> dict[str, T]:
        """An object whose values are objects, each by `read`."""
        value = self._take(key, False)
        if not isinstance(value, dict):
            self.fail(f"{key} must be an object")
        return {name: read(Reader(entry, f"{self.where}: {key}[{name}]")) for name, entry in value.items()}

    def scalars(self, key: str, *kinds: type) -> dict[str, Any]:
        """An object whose values are of one of `kinds`."""
        value = self._take(key, False)
        if not isinstance(value, dict):
            self.fail(f"{key} must be an object")
        return {name: _one_of(entry, kinds, f"{self.where}: {key}[{name}]") for name, entry in value.items()}

    def sequence(self, key: str, *kinds: type, optional: bool = False) -> tuple[Any, ...] | None:
        """A list of values, each of one of `kinds`."""
        if optional and self._values.get(key) is None:
            self._asked.add(key)
            return None
        return tuple(_one_of(entry, kinds, f"{self.where}: {key}[{n}]") for n, entry in enumerate(self._list(key)))

    def raw(self, key: str) -> Any:
        """The value as it is, for a reader of its own; None where it is absent."""
        return self._take(key, True)

    def finish(self, *, tolerant: bool) -> None:
        """Refuse keys that nobody asked for, unless a newer minor version may have added them.

        Raises:
            BundleError: There is one, and `tolerant` is false.
        """
        unknown = sorted(set(self._values) - self._asked)
        if unknown and not tolerant:
            self.fail(f"unknown key {unknown[0]!r}")

    def _take(self, key: str, optional: bool) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is None and not optional:
            self.fail(f"{key} is missing")
        return value

    def _list(self, key: str) -> list[Any]:
        value = self._take(key, False)
        if not isinstance(value, list):
            self.fail(f"{key} must be a list")
        return value


def _one_of(value: object, kinds: tuple[type, ...], where: str) -> Any:
    for kind in kinds:
        if type(value) is kind:
            return _typed(value, kind, where)
    return _typed(value, kinds[-1], where)


def _typed(value: object, kind: type[T], where: str) -> T:
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)  # type: ignore[return-value]
    if type(value) is not kind:
        raise BundleError(f"{where} must be {_KINDS[kind]}, found {value!r:.60}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BundleError(f"{where} is too large a number")
    return value
