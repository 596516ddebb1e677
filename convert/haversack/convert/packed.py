"""One packed variant, as packing hands it to the bundle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from haversack.convert.report import Variant
from haversack.convert.targets import Written
from haversack.convert.verify.edges import Edges


@dataclass(frozen=True)
class Made:
    """One variant with what the bundle needs of it.

    Attributes:
        variant: What is reported.
        written: What the target wrote.
        opened: Opens the artifact; called once, and only where `edges` is asked for.
    """

    variant: Variant
    written: Written
    opened: Callable[[], Edges]

    @functools.cached_property
    def edges(self) -> Edges:
        """The artifact, opened."""
        return self.opened()
