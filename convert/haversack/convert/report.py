"""What was measured, as plain frozen dataclasses that go to JSON and come back.

The engine-free half of the workshop: the command line prints these without importing numpy, and the worker process
sends them through a pipe. `encode` and `decode` are the two directions.

    Inspection          what a model is, and one Preflight a target; or what a bundle or a Core ML Package holds
    Conversion          one artifact: a Variant and the model it came from
    Pack                one bundle: a Variant a (target, compression) pair, and what was skipped and why
    ├── Variant         size, Verification, Accuracy, Latency, notes
    Checked             `verify`: an artifact on its own against a model
    Ran                 `run`: outputs and top labels
    Bench               `bench`: Latency, cold start and memory of each artifact
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from haversack.convert.described import Model, Package, Tensor
from haversack.convert.errors import Blocker
from haversack.convert.report_browser import InBrowser

REFERENCE_EVALUATED = "reference-evaluated"
"""The label of every number that comes from the Core ML reference evaluator instead of Apple's runtime."""


@dataclass(frozen=True)
class Preflight:
    """Whether a target can hold a model, and every reason why not."""

    target: str
    compression: str
    blockers: tuple[Blocker, ...]


@dataclass(frozen=True)
class Inspection:
    """What a model is, and a preflight for each target that was asked about.

    Attributes:
        model: The model; None where a bundle or a package was inspected.
        preflights: One a target.
        bundle: The bundle, where one was inspected.
        package: The Core ML package, where one was inspected.
    """

    model: Model | None
    preflights: tuple[Preflight, ...] = ()
    bundle: Contents | None = None
    package: Package | None = None


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
        allowed: The drop that the verdict is about.
        verdict: `proven within 1 point`; or `measured within 1 point, cannot tell, 2,100 more samples needed`; or
            `worse`.
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
    allowed: float = 1.0
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


@dataclass(frozen=True)
class Transposed:
    """A transpose that an artifact does at run time.

    Attributes:
        value: The model's tensor that is transposed; the node's name where the transpose is inside one.
        bytes: What it moves in one run.
        reason: Which operators disagree about the order of the axes.
    """

    value: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class Moved:
    """An input or output whose axes stand in another order in the artifact (`--io-layout channels-last`).

    Attributes:
        kind: `input` or `output`.
        name: Of the tensor, the same on both sides.
        shape: In the model.
        order: `artifact_array = model_array.transpose(order)`.
    """

    kind: str
    name: str
    shape: tuple[int | str, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """One part of an artifact that is sent file by file (`web`): the model, the engine that runs it, or the page.

    Attributes:
        name: `model`, `engine` or `page`.
        bytes: Of its files.
        gzip_bytes: The sum over its files, each sent with gzip (level 9).
        brotli_bytes: Likewise with brotli (quality 11); None of a model above 4 MiB, where it takes too long.
    """

    name: str
    bytes: int
    gzip_bytes: int
    brotli_bytes: int | None


@dataclass(frozen=True)
class Variant:
    """One (target, compression) pair of a model, and what was measured of it.

    Attributes:
        target: `tflite`, `coreml`, `onnx` or `web`.
        compression: The recipe.
        path: The artifact; inside a bundle, its name there.
        companions: Files written beside it.
        bytes: Its size (of a folder: all its files; `web`: the engine's among them).
        gzip_bytes: The size of one gzip stream (level 9) over it (of a folder: over its files in sorted order; `web`:
            file by file, as it is sent); None of artifacts above 32 MiB, where it is not measured.
        brotli_bytes: The same as one brotli stream (quality 11), which web servers and app stores send; None of
            artifacts above 4 MiB, unless a budget asks for it.
        sha256: Of the file (of a folder: over sorted relative paths and bytes).
        verification: What executing it showed.
        accuracy: On labelled data; None without.
        latency: Measured here; None where it was not, or where the engine only emulates a device.
        notes: What the user should know, one sentence each.
        min_runtime: The lowest version of the target's runtime that runs it, where known.
        transposes: What is left of them (TFLite), and why.
        moved: Inputs and outputs in another order than the model's.
        parts: What a browser fetches on its first visit (`web`); empty of other targets, whose engine is not in the
            artifact.
    """

    target: str
    compression: str
    path: str
    companions: tuple[str, ...]
    bytes: int
    gzip_bytes: int | None
    sha256: str
    verification: Verification
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    notes: tuple[str, ...] = ()
    min_runtime: str | None = None
    transposes: tuple[Transposed, ...] = ()
    moved: tuple[Moved, ...] = ()
    brotli_bytes: int | None = None
    parts: tuple[Part, ...] = ()

    def own(self, kind: Literal["bytes", "gzip_bytes", "brotli_bytes"]) -> int | None:
        """A size without the engine's share: what an artifact of any other target has, and a budget is about."""
        if not any(part.name == "engine" for part in self.parts):
            size: int | None = getattr(self, kind)
            return size
        sizes = [getattr(part, kind) for part in self.parts if part.name != "engine"]
        return None if None in sizes else sum(sizes)


@dataclass(frozen=True)
class Contents:
    """What a bundle says of itself.

    Attributes:
        name: Of the model.
        schema: Version of the bundle's form.
        facts: Further facts in words, by name.
        inputs: In the model's order.
        outputs: In the model's order.
        labels: Class names; empty without.
        variants: What is in it.
    """

    name: str
    schema: str
    facts: dict[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Conversion:
    """One artifact and the model it was made from."""

    model: Model
    variant: Variant

    @property
    def path(self) -> str:
        """Where the artifact is."""
        return self.variant.path

    @property
    def verified(self) -> bool:
        """Whether it was executed and is within its recipe's contract."""
        return self.variant.verification.verified


@dataclass(frozen=True)
class Skipped:
    """A (target, compression) pair that was not made, and why."""

    target: str
    compression: str
    reason: str


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
class Judgement:
    """One budget and one variant.

    Attributes:
        budget: The budget's name, as in `budget.Budget`.
        met: Whether the variant keeps to it.
        allowed: The limit in words.
        measured: What was measured in words, or why nothing was.
        limit: The limit as a number; None for what is either so or not.
        value: What was measured; None where nothing was.
    """

    budget: str
    met: bool
    allowed: str
    measured: str
    limit: float | None = None
    value: float | None = None


@dataclass(frozen=True)
class Pack:
    """One bundle.

    Attributes:
        model: What was read.
        path: The bundle.
        bytes: Its size.
        variants: What is in it.
        skipped: What is not, and why.
        source_accuracy: Of the source on the evaluation data; None without labels.
        within: For each variant, by `target/compression`, whether it fits the budget; empty without a budget.
        budgets: For each variant likewise, how it stands against each limit of the budget.
        over: One sentence for each target of which no variant fits the budget.
        notes: What the user should know of the data, one sentence each.
        advice: What more data or options would give, one sentence each.
        best: By target, the variant within the budget that is best at the objective.
        front: By target, the variants that no other of it beats in everything measured.
        tried: What the search executed.
        relaxing: What it would take, or buy, to relax one part of the budget, one sentence each.
        stages: Seconds, by stage.
    """

    model: Model
    path: str
    bytes: int
    variants: tuple[Variant, ...]
    skipped: tuple[Skipped, ...] = ()
    source_accuracy: Accuracy | None = None
    within: dict[str, bool] = dataclasses.field(default_factory=dict)
    budgets: dict[str, tuple[Judgement, ...]] = dataclasses.field(default_factory=dict)
    over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    best: dict[str, str] = dataclasses.field(default_factory=dict)
    front: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    tried: tuple[Tried, ...] = ()
    relaxing: tuple[str, ...] = ()
    stages: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class BudgetRow:
    """One line of a budget, held against a bundle.

    Attributes:
        subject: The target or variant that the line is about.
        variant: Id of the variant that was judged; empty where the bundle has none.
        judgement: How it stands.
    """

    subject: str
    variant: str
    judgement: Judgement


@dataclass(frozen=True)
class BudgetCheck:
    """A bundle held against a budget.

    Attributes:
        bundle: The file.
        baseline: The bundle that growth is against; empty without.
        met: Whether every line is met.
        rows: One a line of the budget and target.
    """

    bundle: str
    baseline: str
    met: bool
    rows: tuple[BudgetRow, ...]


@dataclass(frozen=True)
class Checked:
    """An artifact that exists already, compared with a model."""

    artifact: str
    model: Model
    compression: str
    verification: Verification
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class Output:
    """One output of one run: its shape and, for class scores, the best classes of each sample."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    top: tuple[tuple[tuple[str, float], ...], ...] = ()


@dataclass(frozen=True)
class Ran:
    """What running an artifact or a bundle gave."""

    artifact: str
    engine: str
    label: str
    samples: int
    outputs: tuple[Output, ...]
    written: str | None = None
    browser: InBrowser | None = None


@dataclass(frozen=True)
class Benched:
    """One artifact's speed here.

    Attributes:
        artifact: What was run.
        latency: Warm calls, interleaved with the other artifacts'.
        cold_start_ms: From the start of a fresh process to its first output: import, load and one call.
        first_call_ms: Load and one call, without starting Python.
        peak_rss_mb: Peak resident memory of that process, in MiB. In a browser: what all of Chromium's processes hold
            after that call, shared pages counted once; None where the system does not say.
        sha256: Of the artifact, by which another machine knows what was measured.
        ratio: In a browser, the time of its calls over that of the native engine's, median of paired rounds.
        ratio_low: The 5th percentile over the rounds.
        ratio_high: The 95th.
        browser: Where it ran; None of a native engine.
    """

    artifact: str
    latency: Latency
    cold_start_ms: float
    first_call_ms: float
    peak_rss_mb: float | None
    sha256: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    browser: InBrowser | None = None


@dataclass(frozen=True)
class Bench:
    """Several artifacts' speed here, measured interleaved.

    Attributes:
        rows: One an artifact.
        notes: What was not measured, and why.
    """

    rows: tuple[Benched, ...]
    notes: tuple[str, ...] = ()


def encode(value: Any) -> Any:
    """Turn a report into what `json.dumps` takes; an infinite or undefined number becomes None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): encode(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [encode(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def decode(kind: Any, value: Any) -> Any:
    """Build the report of type `kind` (a dataclass, or a type that its fields use) from what `encode` gave."""
    if value is None:
        return None
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        arguments = {f.name: decode(hints[f.name], value[f.name]) for f in dataclasses.fields(kind) if f.name in value}
        return typing.cast(Any, kind)(**arguments)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(decode(each, entry) for each, entry in zip(kinds, value, strict=True))
    if origin is dict:
        return {key: decode(inner[1], entry) for key, entry in value.items()}
    if origin in (types.UnionType, typing.Union):
        present = [each for each in inner if each is not type(None)]
        return decode(present[0], value) if len(present) == 1 else value
    return value
