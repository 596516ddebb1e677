"""Verification: executing what was made, and comparing.

    contract.py    what each recipe promises, as data
    original.py    the source file, run by its own runtime
    reference.py   its outputs, computed once for all artifacts
    execute.py     running over samples
    edges.py       an artifact through the model's own inputs and outputs
    compare.py     distances; accuracy.py  proportions and their intervals
    judge.py       one artifact held to its contract
    layers.py      each layer alone; diverge.py  the first that leaves the model; probe_*.py  looking inside
    artifact.py    `verify`: an artifact that exists already

`haversack.convert.verify` is this package and, called, the function `verify` of `artifact.py`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haversack.convert.verify.artifact import verify


class _Callable(ModuleType):
    """Lets `haversack.convert.verify(artifact, against)` work although the name is a package's."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `verify`."""
        from haversack.convert.verify.artifact import verify

        return verify(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Import `verify` when it is first asked for."""
        if name == "verify":
            from haversack.convert.verify.artifact import verify

            return verify
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


sys.modules[__name__].__class__ = _Callable

__all__ = ["verify"]
