"""The targets: what an artifact is lowered to, one package or module each, behind one protocol."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import onnx_ir as ir

from haversack.convert.errors import Blocker, UsageError
from haversack.convert.measured import Verification
from haversack.convert.report import Moved, Part, Transposed
from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.manifest import Tolerance

if TYPE_CHECKING:
    from haversack.convert.deployment import Deployment
    from haversack.convert.image_inputs import Image
    from haversack.convert.resizing import Resizing
    from haversack.runtimes.preprocess import Preprocess


@dataclass(frozen=True)
class Options:
    """What a user may ask of a target beside the recipe; each target ignores what does not concern it.

    Attributes:
        io_layout: `keep` the source's axis order at inputs and outputs, or move them to `channels-last`.
        io_dtype: `float32` at the edges of a quantized artifact, or `int8`.
        deployment_target: The oldest system a Core ML package must run on: `iOS15` to `iOS18`.
        float32_nodes: Names of hub nodes that compute in float32 in a float16 Core ML package (`fp16`): those that
            verification found to overflow or to lose the result.
        resizing: Other sizes of a model with symbolic dimensions; None where all are fixed.
        images: Inputs that a Core ML package takes as images, by name.
        states: Inputs that a Core ML package keeps as states, each with the output that is left in it.
        int4_container: What a TFLite file holds weights of four bits in, where its kernels take them: `int4` is half as
            large on disk; `fast`, int4 only where a kernel is as fast on it; `int8`, the same numbers in bytes.
        ort_format: Also write the `.ort` flatbuffer and its operator config beside the `.onnx` (target `onnx`).
    """

    io_layout: Literal["keep", "channels-last"] = "keep"
    io_dtype: Literal["float32", "int8"] = "float32"
    deployment_target: str | None = None
    float32_nodes: frozenset[str] = frozenset()
    resizing: Resizing | None = None
    images: Mapping[str, Image] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    int4_container: Literal["int4", "fast", "int8"] = "int4"
    ort_format: bool = True


@dataclass(frozen=True)
class Tap:
    """Where a value of the hub graph lives in an artifact.

    Attributes:
        value: Name of the value in the (compressed) hub graph. For an integer tensor this is the output of the
            hub's QuantizeLinear, so that both sides hold the same integers.
        tensor: The artifact's own handle: a TFLite tensor index, a MIL variable name, an ONNX value name.
        permutation: `artifact_array = hub_array.transpose(permutation)`; None where the axes are the same.
        offset: `artifact_integer = hub_integer + offset`: 128 where int8 was re-encoded as uint8.
    """

    value: str
    tensor: int | str
    permutation: tuple[int, ...] | None = None
    offset: int = 0


@dataclass(frozen=True)
class Layer:
    """One operator of an artifact and the part of the hub graph that it computes, fused nodes together.

    Attributes:
        name: Name of the hub node it is named after (the one with the weights, or the last).
        op: The artifact's operator, such as `CONV_2D`, `conv` or `Conv`.
        inputs: Activations it reads (constants are not listed).
        outputs: What it computes; artifact values with no counterpart in the hub are not listed.
    """

    name: str
    op: str
    inputs: tuple[Tap, ...]
    outputs: tuple[Tap, ...]


@dataclass(frozen=True)
class Written:
    """What a target wrote.

    Attributes:
        path: The artifact: one file, or the folder of a `.mlpackage`.
        companions: Files written beside it (an operator config, a `.ort`).
        layers: The map back to the hub, in execution order.
        notes: What the user should know, one sentence each: float islands in an int8 artifact, transposes that
            remain, int64 that was narrowed.
        min_runtime: The lowest version of the target's runtime or system that runs it, where known.
        transposes: Those that it does at run time, and why (TFLite).
        moved: Inputs and outputs whose axes stand in another order than the model's.
        deployment: How it gets onto devices (ONNX Runtime).
        inside: The model file in an artifact that is more than a model (`web`): what engines open and layers are
            looked for in; None where the artifact is the model.
    """

    path: Path
    companions: tuple[Path, ...] = ()
    layers: tuple[Layer, ...] = ()
    notes: tuple[str, ...] = field(default=())
    min_runtime: str | None = None
    transposes: tuple[Transposed, ...] = ()
    moved: tuple[Moved, ...] = ()
    deployment: Deployment | None = None
    inside: Path | None = None

    @property
    def model(self) -> Path:
        """What an engine opens: the artifact, or the model file in it."""
        return self.inside or self.path


@dataclass(frozen=True)
class Proof:
    """What is known of an artifact once it was executed, for a target that writes it into the artifact.

    Attributes:
        name: Of the model.
        recipe: How it was compressed.
        source_sha256: Of the model it was made from.
        inputs: As the artifact has them.
        outputs: Likewise.
        verification: What executing it showed; `verified` is false where it was not.
        golden: (inputs, outputs that the artifact gave for them), by its own names; empty where it was not executed.
        tolerance: For those.
        labels: Name of each class.
        preprocess: How an image becomes its input.
    """

    name: str
    recipe: str
    source_sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    verification: Verification
    golden: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    labels: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None


@runtime_checkable
class Completes(Protocol):
    """A target whose artifacts carry what was found out about them: golden vectors, how they were verified."""

    def complete(self, written: Written, proof: Proof) -> tuple[Part, ...]:
        """Put `proof` into the artifact, which is then as it is delivered; returns the sizes of its parts."""
        ...


class Target(Protocol):
    """A place where models run. `module.TARGET` of each module in `TARGETS` is one.

    Attributes:
        name: As the command line spells it.
        suffix: Of its artifacts; `haversack.runtimes.engines.ENGINES` says which engine runs them.
        recipes: The recipes it can hold.
    """

    name: str
    suffix: str
    recipes: tuple[str, ...]

    def preflight(self, model: ir.Model, recipe: str, options: Options) -> list[Blocker]:
        """Every reason why `model`, compressed by `recipe`, cannot be lowered; empty means it can."""
        ...

    def precisions(self, node: ir.Node) -> tuple[str, ...]:
        """The precisions that it can hold a layer of the float hub graph in; see `targets.precisions`."""
        ...

    def write(self, model: ir.Model, recipe: str, path: Path, options: Options) -> Written:
        """Lower the compressed hub graph `model` and write the artifact at `path`; `model` is not changed.

        Raises:
            UnsupportedError: The target cannot hold the model; nothing was written.
        """
        ...


TARGETS: dict[str, str] = {
    "tflite": "haversack.convert.targets.tflite",
    "coreml": "haversack.convert.targets.coreml",
    "onnx": "haversack.convert.targets.ort",
    "web": "haversack.convert.targets.web",
}
ALIASES = {"ort": "onnx", "litert": "tflite"}


def open_target(name: str) -> Target:
    """Import one target by the name the command line uses (`ort` and `litert` are aliases).

    Raises:
        UsageError: There is no such target.
    """
    name = ALIASES.get(name, name)
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}; known are {', '.join(TARGETS)}")
    target: Target = importlib.import_module(TARGETS[name]).TARGET
    return target
