"""What executing an artifact showed: how far it is from what it must compute, how accurate it is, how fast.

Plain frozen dataclasses, as in `report.py`, whose variants hold them.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE_EVALUATED = "reference-evaluated"
"""The label of every number that comes from the Core ML reference evaluator instead of Apple's runtime."""


@dataclass(frozen=True)
class OutputError:
    """How far one output of an artifact is from its reference, over all samples.

    Attributes:
        name: The output.
        max_abs: Largest absolute difference.
        max_relative: `max_abs / max(largest absolute reference value, 1e-6)`.
        snr_db: 10 log10(reference power / difference power); None where it is not finite: nothing differs
            (`max_abs` is 0), or something does and the reference is all zero.
    """

    name: str
    max_abs: float
    max_relative: float
    snr_db: float | None


@dataclass(frozen=True)
class LayerError:
    """One layer's distance from the model, in units of its output's last bit where `unit` says `LSB`."""

    name: str
    op: str
    error: float
    limit: float
    unit: str


@dataclass(frozen=True)
class Verification:
    """Whether an artifact was executed and reproduces what it must, and by how much.

    Attributes:
        verified: True only when the artifact was executed and is within its recipe's contract.
        by: The engine and its version; empty where nothing was executed.
        label: `reference-evaluated` where the engine is not the device's own, else empty.
        against: `source` or `compressed model`.
        inputs: What it was fed, in words.
        samples: How many inputs.
        outputs: One a model output, against what `against` names.
        to_source: The same, always against the source.
        agreement: Share of samples whose prediction is the source's; None where the output is not a class score.
        changed: How many samples' predictions differ from the source's; None likewise.
        agreement_compressed: Share of samples whose prediction is the compressed model's; None likewise, and where
            the contract does not ask for it.
        layers: How many layers were judged one by one (int8), 0 where the contract asks for none.
        worst_layer: The layer furthest from the model among them.
        notes: What the comparison could not say, one sentence each: an output that is the same for every sample,
            labels without class scores.
    """

    verified: bool
    by: str = ""
    label: str = ""
    against: str = ""
    inputs: str = ""
    samples: int = 0
    outputs: tuple[OutputError, ...] = ()
    to_source: tuple[OutputError, ...] = ()
    agreement: float | None = None
    changed: int | None = None
    agreement_compressed: float | None = None
    layers: int = 0
    worst_layer: LayerError | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accuracy:
    """A metric on the evaluation data beside the source's on the same samples: top-1 accuracy unless another is named.

    Where a sample is right or wrong, `low` and `high` are Wilson's score interval, the difference's bounds Agresti and
    Min's, and `p_value` is McNemar's; otherwise the bounds are a paired bootstrap's (`verify/statistics.py`).

    Attributes:
        value: The metric; for top-1, correct over samples.
        low: Lower bound of its 95 % interval.
        high: Its upper bound.
        samples: How many.
        difference: The metric minus the source's on the same samples.
        difference_low: Lower bound of that paired difference's 95 % interval.
        difference_high: Its upper bound.
        metric: Its name.
        against: `labels`; or `source`, where without labels the agreement with the source stands in for an accuracy.
        higher_is_better: False for an error.
        unit: `points` where drops are told in percentage points; empty where in the metric's own unit.
        gained: Samples that only this variant got right; None where samples are not right or wrong.
        lost: Samples that only the source got right; None likewise.
        p_value: Exact two-sided McNemar test: how often chance alone gives so uneven a `gained` and `lost`; None
            likewise.
        interval: How the bounds were found.
        allowed: The drop that the verdict is about; None where nobody named one, of a metric with its own unit.
        verdict: `proven within 1 point`; or `measured within 1 point, cannot tell, 2,100 more samples needed`; or
            `worse`; empty where no drop is allowed or forbidden.
        more_samples: So many more are needed, at these rates, before the bound is within too; None where it is, where
            the measured drop is not, or where no number would do.
    """

    value: float
    low: float
    high: float
    samples: int
    difference: float
    difference_low: float
    difference_high: float
    metric: str = "top1"
    against: str = "labels"
    higher_is_better: bool = True
    unit: str = "points"
    gained: int | None = None
    lost: int | None = None
    p_value: float | None = None
    interval: str = ""
    allowed: float | None = 1.0
    verdict: str = ""
    more_samples: int | None = None

    @property
    def drop(self) -> float:
        """By how much it is worse than the source, as measured: in points, or the metric's own unit."""
        return self._scale * (0.0 - self.difference if self.higher_is_better else self.difference)

    @property
    def drop_bound(self) -> float:
        """By how much it is worse at most, by the 95 % interval's bound."""
        return self._scale * (0.0 - self.difference_low if self.higher_is_better else self.difference_high)

    @property
    def stands_in(self) -> bool:
        """Whether it is the agreement with the source, in place of an accuracy for which there are no labels."""
        return self.against == "source" and self.metric in ("top1", "top5")

    @property
    def _scale(self) -> float:
        return 100.0 if self.unit == "points" else 1.0


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call with one sample, on this machine.

    Attributes:
        p50: Median.
        p95: 95th percentile.
        p99: 99th percentile.
        runs: How many calls were timed.
        threads: How many CPU threads a call may use.
        engine: What ran it.
        machine: Where.
    """

    p50: float
    p95: float
    p99: float
    runs: int
    threads: int
    engine: str
    machine: str
