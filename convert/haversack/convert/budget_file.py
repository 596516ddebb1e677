"""A budget as a file, for `haversack check`: TOML, read without opening anything else.

    max_drop = 1.0                  # for every target of the bundle
    verified = true

    [tflite]                        # for this target, which the bundle must then have; on top of what is above
    max_bytes = "60 KB"
    max_latency_ms = 2.0

    [onnx-int8]                     # for this variant alone
    max_wire = 38_000
    max_growth_percent = 2          # against --baseline

A line about a target is met where one of its variants keeps to all lines about that target.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haversack.convert.budget import Budget
from haversack.convert.errors import UsageError
from haversack.convert.names import ALIASES, RECIPES, SUFFIXES, size_of

SIZES = {"max_bytes": "max_size", "max_gzip": "max_gzip", "max_wire": "max_wire"}
NUMBERS = {
    "max_drop": "max_drop",
    "min_accuracy": "min_accuracy",
    "max_latency_ms": "max_latency",
    "max_growth_percent": "max_growth_percent",
    "max_accuracy_loss": "max_accuracy_loss",
    "max_latency_ratio": "max_latency_ratio",
}
FLAGS = ("confident", "verified")
KEYS = (*SIZES, *NUMBERS, *FLAGS, "machine")

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Growth:
    """What a variant may have become worse against the same variant of an older bundle; None where it may.

    Attributes:
        max_growth_percent: More bytes on disk, in percent.
        max_accuracy_loss: Less accuracy, in points (or the metric's own unit).
        max_latency_ratio: The median latency's ratio, new over old.
    """

    max_growth_percent: float | None = None
    max_accuracy_loss: float | None = None
    max_latency_ratio: float | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return any(value is not None for value in vars(self).values())


@dataclass(frozen=True)
class Section:
    """What is asked of one target or variant.

    Attributes:
        budget: Its limits; `device` is the machine that a latency must come from, None for any.
        growth: Limits against a baseline.
    """

    budget: Budget
    growth: Growth


@dataclass(frozen=True)
class BudgetFile:
    """A whole file.

    Attributes:
        name: Of the file.
        common: What every target is asked, as written.
        sections: By target or variant id, as written; on top of `common`.
    """

    name: str
    common: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def section(self, *names: str) -> Section:
        """What is asked of a target, or of a target's variant: what a later name says goes before an earlier's."""
        values = dict(self.common)
        for name in names:
            values |= self.sections.get(name, {})
        return section(values)

    @property
    def compares(self) -> bool:
        """Whether a line needs a baseline."""
        return any(self.section(name).growth for name in ("", *self.sections))


def read_budget(path: Path) -> BudgetFile:
    """Read a budget.

    Raises:
        UsageError: It cannot be read, or a line cannot be meant; what is known is named.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path.name}: too large for a budget")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--budget {path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path.name}: not TOML: {error}") from None
    common = {key: value for key, value in document.items() if not isinstance(value, dict)}
    found: dict[str, dict[str, Any]] = {}
    for name, values in document.items():
        if isinstance(values, dict):
            found[_subject(name, path.name)] = values
    for where, values in (("", common), *found.items()):
        _check(values, path.name, where)
    if not common and not any(found.values()):
        raise UsageError(f"{path.name}: it asks nothing; known are {', '.join(KEYS)}")
    return BudgetFile(path.name, common, found)


def section(values: Mapping[str, Any]) -> Section:
    """Limits from the keys and values of a file, which were checked."""
    limits: dict[str, Any] = {}
    for key, value in values.items():
        if key in SIZES:
            limits[SIZES[key]] = size_of(value) if isinstance(value, str) else value
        elif key in NUMBERS:
            limits[NUMBERS[key]] = float(value)
        elif key in FLAGS:
            limits[key] = value
        else:
            limits["device"] = value
    growth = {key: limits.pop(key) for key in vars(Growth()) if key in limits}
    return Section(Budget(**limits), Growth(**growth))


def _subject(name: str, file: str) -> str:
    """A target's name, or a variant's id with its target's name."""
    target, dash, recipe = name.partition("-")
    target = ALIASES.get(target, target)
    if target not in SUFFIXES.values() or (dash and not recipe):
        example = f"{next(iter(SUFFIXES.values()))}-{RECIPES[2]}"
        raise UsageError(
            f"{file}: [{name}] is neither a target ({', '.join(SUFFIXES.values())}) nor a variant (such as {example})"
        )
    return target + dash + recipe


def _check(values: Mapping[str, Any], file: str, where: str) -> None:
    at = f"{file}: [{where}] " if where else f"{file}: "
    for key, value in values.items():
        if key not in KEYS:
            raise UsageError(f"{at}unknown key {key!r}; known are {', '.join(KEYS)}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in SIZES:
            if isinstance(value, str):
                size_of(value)
            elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise UsageError(f'{at}{key} is a number of bytes, or a size such as "60 KB"; found {value!r:.60}')
        elif key in NUMBERS:
            if not number or not math.isfinite(value) or (value < 0 and key != "min_accuracy"):
                raise UsageError(f"{at}{key} is a number, zero or more; found {value!r:.60}")
        elif key in FLAGS:
            if not isinstance(value, bool):
                raise UsageError(f"{at}{key} is true or false; found {value!r:.60}")
        elif not isinstance(value, str) or not value:
            raise UsageError(f"{at}{key} is a machine's name in quotes; found {value!r:.60}")
    if "machine" in values and where and not {"max_latency_ms", "max_latency_ratio"} & set(values):
        raise UsageError(f"{at}machine says where a latency was measured; give max_latency_ms too")
