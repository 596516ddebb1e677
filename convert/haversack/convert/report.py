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
    BudgetCheck         `check`: a bundle against a budget file
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, overload

from haversack.convert.deployment import Deployment
from haversack.convert.described import Model, Package, Tensor
from haversack.convert.engine_sizes import EngineSize
from haversack.convert.errors import Blocker
from haversack.convert.measured import Accuracy, Latency, Verification
from haversack.convert.outcome import Outcome, Tried
from haversack.convert.report_browser import InBrowser


@dataclass(frozen=True)
class Preflight:
    """Whether a target can hold a model, and every reason why not; what follows for devices where it can."""

    target: str
    compression: str
    blockers: tuple[Blocker, ...]
    deployment: Deployment | None = None


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
            artifacts above 4 MiB, unless a budget or the objective asks for it.
        sha256: Of the file (of a folder: over sorted relative paths and bytes).
        verification: What executing it showed.
        accuracy: On labelled data; None without.
        latency: Measured here; None where it was not, or where the engine only emulates a device.
        notes: What the user should know, one sentence each.
        min_runtime: The lowest version of the target's runtime that runs it, where known.
        transposes: What is left of them (TFLite), and why.
        moved: Inputs and outputs in another order than the model's.
        deployment: How it gets onto devices (ONNX Runtime).
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
    deployment: Deployment | None = None
    brotli_bytes: int | None = None
    parts: tuple[Part, ...] = ()

    @property
    def holds_engine(self) -> bool:
        """Whether the artifact's sizes count its engine too: a web folder's do."""
        return any(part.name == "engine" for part in self.parts)

    @overload
    def own(self, kind: Literal["bytes"]) -> int: ...

    @overload
    def own(self, kind: Literal["gzip_bytes", "brotli_bytes"]) -> int | None: ...

    def own(self, kind: Literal["bytes", "gzip_bytes", "brotli_bytes"]) -> int | None:
        """A size without the engine's share: what an artifact of any other target has, and a budget is about."""
        if not self.holds_engine:
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
        outcome: What the packing of it came to; empty of bundles that say nothing of it.
    """

    name: str
    schema: str
    facts: dict[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]
    variants: tuple[Variant, ...]
    outcome: Outcome = dataclasses.field(default_factory=Outcome)


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
    """A (target, compression) pair that was not made, and why.

    Attributes:
        target: Its name.
        compression: The recipe, or the plan.
        reason: In words.
        broken: It was made, and broke its contract when it was executed.
    """

    target: str
    compression: str
    reason: str
    broken: bool = False


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
        notes: What the user should know of the data and the budget, one sentence each.
        advice: What more data or options would give, one sentence each.
        best: By target, the variant within the budget that is best at the objective.
        front: By target, the variants that no other of it beats in everything measured.
        tried: What the search executed.
        relaxing: What it would take, or buy, to relax one part of the budget, one sentence each.
        stages: Seconds, by stage.
        engines: By target, what its engine adds to an app.
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
    engines: dict[str, EngineSize] = dataclasses.field(default_factory=dict)


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
