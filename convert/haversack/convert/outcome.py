"""What packing came to, beside its variants: what was asked, what the search executed, and what is best.

Plain frozen dataclasses, as in `report.py`, whose reports hold them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from haversack.convert.engine_sizes import EngineSize


@dataclass(frozen=True)
class Tried:
    """One plan that the search built and executed as a compressed model.

    Attributes:
        name: Of the plan.
        family: What it is for: `size`, `wire` or `weights`.
        bytes: What its layers take, estimated: on disk, or over the wire for `wire`.
        cost: What its layers cost together, measured one by one on calibration data.
        drop: What it lost on the evaluation data, in points.
        samples: On so many of its samples.
        made: Whether artifacts were made of it.
    """

    name: str
    family: str
    bytes: float
    cost: float
    drop: float
    samples: int
    made: bool


@dataclass(frozen=True)
class Outcome:
    """What packing came to, as a bundle keeps it for those who choose from it; the fields are `Pack`'s and `Budget`'s.

    Attributes:
        max_drop: What was asked; None where it did not matter. Points, or the metric's own unit.
        confident: Whether the bound of the drop's interval was judged.
        max_size: Bytes on disk.
        max_wire: Bytes over the wire.
        max_latency: Milliseconds.
        device: Whose latency that is; None: the machine's that packed.
        objective: `size`, `wire` or `latency`; None: all of them.
        best: By target.
        front: By target.
        tried: What the search executed.
        relaxing: What it would take, or buy, to relax one part of the budget.
        stages: Seconds, by stage.
        engines: By target.
    """

    max_drop: float | None = None
    confident: bool = False
    max_size: int | None = None
    max_wire: int | None = None
    max_latency: float | None = None
    device: str | None = None
    objective: str | None = None
    best: dict[str, str] = dataclasses.field(default_factory=dict)
    front: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    tried: tuple[Tried, ...] = ()
    relaxing: tuple[str, ...] = ()
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    engines: dict[str, EngineSize] = dataclasses.field(default_factory=dict)
