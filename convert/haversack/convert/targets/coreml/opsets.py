"""What the opsets of the deployment targets have, and what is said where one lacks an op or a parameter.

MIL's opsets grow: an op, or a parameter of one, is there from some system on (`coremltools.converters.mil.mil.ops.defs`
has a folder for each). A lowering is written for all of them: parameters that an older opset lacks are left out where
they ask for what the older op does anyway, and anything else is refused with the lowest system that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from haversack.convert.targets.coreml.builder import Builder

LATER: dict[str, dict[str, tuple[int, tuple[Any, ...]]]] = {
    "gather": {"batch_dims": (16, (0,))},
    "gather_nd": {"batch_dims": (16, (0,))},
    "topk": {"sort": (16, (True, False)), "return_indices": (16, (True,))},
}
"""By op, its parameters that came later: with which system, and what the op did before. (Entries that were always
sorted are also entries in no particular order.)"""


def known(b: Builder, kind: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of an op as the deployment target has them.

    Raises:
        UnsupportedError: It lacks a parameter that asks for something else than the op does there.
    """
    given = dict(inputs)
    for name, (first, before) in LATER.get(kind, {}).items():
        if b.ios < first and name in given and given.pop(name) not in before:
            refuse(b, f"`{name}` of MIL's `{kind}`", first)
    return given


def first(b: Builder, kind: str) -> int:
    """The lowest system whose opset has an op; 0 for an op that coremltools does not have."""
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return min((target - b.coremltools.target.iOS15 + 15 for target in SSAOpRegistry.core_ops.get(kind, ())), default=0)


def refuse(b: Builder, what: str, ios: int) -> NoReturn:
    """Say that the deployment target is too old.

    Raises:
        UnsupportedError: Always.
    """
    b.refuse(f"{what} is there from iOS {ios} on, the deployment target is iOS {b.ios}", f"use iOS{ios}")
