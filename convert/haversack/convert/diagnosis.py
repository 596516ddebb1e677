"""What the doctor found, as plain frozen dataclasses: free of engines and numpy, to JSON and back by `report`.

Diagnosis           the verdict, and all that it rests on
├── Harm            what a change does to the outputs, on calibration data
├── Cause           why, with its evidence, and what it costs alone
├── Trial           a repair that was tried, and what it measured
├── LayerSign       one layer: its weights alone, its activations alone
└── TensorSign      the tensors that share one scale: their range alone, a histogram
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from haversack.convert.described import Model
from haversack.convert.measured import Accuracy
from haversack.convert.report import Variant

NATS, SHARE = "nats", "of the signal"
"""Units of a loss: divergence of class probabilities, or noise as a share of the output's power."""


def tolerated(unit: str) -> float:
    """The loss that stands for a point where no metric can be measured: 0.02 nats, or a hundredth of the signal.

    The search for plans starts from 0.03 nats for a point.
    """
    return 0.02 if unit == NATS else 0.01


LARGEST = 1e9
"""What an infinite number is told as: JSON has none."""


@dataclass(frozen=True)
class Harm:
    """What a change of the model does to its outputs, before a last softmax or sigmoid.

    Attributes:
        loss: What causes and repairs are ranked by: a divergence in nats where the output is class scores, else noise
            over signal (where an output's channels are of unlike ranges: the mean over channels, each at most 1).
        unit: `NATS` or `SHARE`.
        snr_db: Signal over noise of the worst output, at most 99.
        agreement: Share of samples with the same best class; None without class scores.
        worst: The channel that suffers most, in words; empty where channels are not told apart.
    """

    loss: float
    unit: str
    snr_db: float
    agreement: float | None = None
    worst: str = ""


@dataclass(frozen=True)
class Cause:
    """One reason for the loss.

    Attributes:
        kind: In two or three words: `outlier channel`, `shared scale`, …
        where: The layer or tensor.
        evidence: One sentence with numbers.
        loss: What it costs alone, everything else in floats; None where it cannot be measured so.
        numbers: The evidence's numbers by name.
        nodes: Names of the nodes that it concerns.
        also: Other signs at the same place, one sentence each.
    """

    kind: str
    where: str
    evidence: str
    loss: float | None = None
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One repair, or several together, tried and measured.

    Attributes:
        repair: What was done, in words.
        harm: What is then left, on calibration data.
        bytes: What the model's constants take more than before (less, where negative).
        speed: What it costs at run time, in words; empty where nothing.
        accuracy: On the evaluation data; None where the repair was not tried there.
        kept: Whether it is part of the repair that is recommended.
        reason: Why it could not be tried; empty where it was.
    """

    repair: str
    harm: Harm | None
    bytes: int
    speed: str = ""
    accuracy: Accuracy | None = None
    kept: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Ranges:
    """The range of each channel.

    Attributes:
        axis: Of the channels.
        low: Smallest values, one a channel.
        high: Largest values.
    """

    axis: int
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class LayerSign:
    """What one layer costs.

    Attributes:
        name: Of its node.
        op: Its operator.
        output: The tensor it gives, after a fused activation.
        weights: What its weights cost alone; None where they were not compressed.
        activations: What its input and output cost alone; None where they stay float.
        bits: In words how its weights are held.
        spread: The range of each output channel of its weights.
    """

    name: str
    op: str
    output: str
    weights: Harm | None
    activations: Harm | None
    bits: str
    spread: Ranges | None = None


@dataclass(frozen=True)
class TensorSign:
    """Tensors that share one scale.

    Attributes:
        name: Of the first of them.
        tensors: Of all of them.
        harm: What their range costs alone.
        low: The smallest number that the scale holds.
        high: The largest.
        seen_low: The smallest value that calibration saw.
        seen_high: The largest.
        clipped: Share of the values outside the range.
        edges: Of the histogram's bins, one more than counts.
        counts: Values a bin.
        spread: The range of each channel.
    """

    name: str
    tensors: tuple[str, ...]
    harm: Harm
    low: float
    high: float
    seen_low: float
    seen_high: float
    clipped: float
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    spread: Ranges | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        model: What was read.
        compression: The recipe that was examined.
        healthy: Whether it loses no more than allowed as it is.
        repaired: Whether the recommended repair brings it within what is allowed.
        verdict: One line.
        allowed: The drop that is allowed: points, or hundredths of the signal without class scores.
        harm: Of the compressed model, on calibration data.
        before: The compressed model on the evaluation data (on calibration data, without labels, where there is none).
        after: The repaired model on the same; None where none was needed or found.
        measured_on: What `before` and `after` were measured on, in words.
        causes: Those that matter, the costliest first.
        trials: Repairs in the order tried.
        repair: The recommended one in words; empty where none.
        plan: The plan that holds the repair, as its JSON text; empty where none.
        layers: In graph order.
        tensors: In graph order.
        advice: What to do, one sentence each.
        commands: Command lines to go on with.
        notes: What the user should know, one sentence each.
        artifacts: Before and after as artifacts of the target that was asked for, executed.
        floats: The float model's accuracy on the evaluation data; None without labels.
        samples: Calibration samples that the harms were measured on.
    """

    model: Model
    compression: str
    healthy: bool
    repaired: bool
    verdict: str
    allowed: float
    harm: Harm
    before: Accuracy | None = None
    after: Accuracy | None = None
    measured_on: str = ""
    causes: tuple[Cause, ...] = ()
    trials: tuple[Trial, ...] = ()
    repair: str = ""
    plan: str = ""
    layers: tuple[LayerSign, ...] = ()
    tensors: tuple[TensorSign, ...] = ()
    advice: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    artifacts: tuple[Variant, ...] = ()
    floats: Accuracy | None = None
    samples: int = 0
