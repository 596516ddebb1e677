"""One packed variant, as packing hands it to the bundle."""

from __future__ import annotations

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
        edges: The artifact, opened.
    """

    variant: Variant
    written: Written
    edges: Edges
