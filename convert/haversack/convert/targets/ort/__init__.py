"""ONNX Runtime Mobile: the smallest `.onnx` that runs fast, its `.ort`, and the config of a reduced build.

The graph that is written is the hub's, with rewrites that do not change a value and hold on every machine:

- `unit_scales` (of `targets`): most activations get the scale 1, so that a bias has the scales of its weights;
- `unsigned.py`: int8 activations become uint8, which onnxruntime fuses into integer kernels on x86 as on ARM;
- `integers.py`: what onnxruntime computes on integers in any case is said on integers;
- `foldable.py`: what onnxruntime would recompute on every run becomes what it folds when it loads;
- `shrink.py`: names, types of intermediate values and repeated initializers go: half of a small file.

`Tap.offset` of a re-encoded integer tensor is 128: artifact = hub + 128.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.recipes import STORAGES
from haversack.convert.deployment import Deployment
from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets import Layer, Options, Written
from haversack.convert.targets.ort import defaults, edges, foldable, integers, layers, preflight, shrink, unsigned
from haversack.convert.targets.ort.ort_format import operator_config, write_ort
from haversack.convert.targets.ort.packages import PACKAGES
from haversack.convert.targets.ort.partitions import provider_fits
from haversack.convert.targets.ort.reduced import reduced_build
from haversack.convert.targets.ort.runtimes import Runtime
from haversack.convert.targets.refusals import ML
from haversack.convert.targets.unit_scales import unit_scales

MIN_RUNTIME = "onnxruntime 1.20"
"""The first that runs opset 21 in full."""

CONFIG = ".required_operators_and_types.config"
"""How the config's name ends: what onnxruntime's own conversion script calls it."""

ANALYSED = 1 << 28
"""Models up to this many bytes are asked which execution providers would take them."""

LARGEST = 2**31 - 1
"""Bytes a protobuf can hold."""

SLOW_ORT = (
    "in the .ort, float convolutions miss the layout that onnxruntime gives them when it loads an .onnx on x86 "
    "(2 to 8 times slower there); prefer the .onnx"
)

STORED = tuple(name for name, form in STORAGES.items() if not (form.sparsity or form.pattern))
"""int4, blocks and palettes, which onnxruntime unpacks when it loads the `.onnx`: as fast as float32 from then on.
Zeros take the bytes of any number."""

PACKED = ("fp16", "int8-weights", "int8-dynamic", *STORED)
"""Recipes whose weights are unpacked when the model is loaded: folding them into the `.ort` would undo the recipe."""

NO_INT16 = (
    "onnxruntime has no kernels for int16: layers compute in float32 between QuantizeLinear and DequantizeLinear, "
    "several times slower than either"
)

NO_ORT = "there is no .ort beside it: that format has no tensors of 4 bits"


@dataclass(frozen=True)
class OrtTarget:
    """The target `onnx`; see `haversack.convert.targets.Target`."""

    name: str = "onnx"
    suffix: str = ".onnx"
    recipes: tuple[str, ...] = ("fp32", "fp16", "int8", "int16", "int8-dynamic", "int8-weights", *STORED)

    def preflight(
        self, model: ir.Model, recipe: str, options: Options, runtime: Runtime = "onnxruntime-mobile"
    ) -> list[Blocker]:
        """Every reason why `runtime`'s CPU provider cannot run `model`."""
        if options.io_layout != "keep":
            reason = "onnxruntime's layout is the model's own"
            return [Blocker("options", recipe, reason, "leave --io-layout at keep")]
        size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
        if size > LARGEST:
            return [
                Blocker(str(model.graph.name), "graph", f"{size:,} bytes of weights in one file of at most 2 GiB",
                        "compress it: int8-weights")
            ]  # fmt: skip
        return preflight.blockers(model, runtime)

    def precisions(self, node: ir.Node) -> tuple[str, ...]:
        """The precisions that it can hold a layer of the float hub graph in; see `targets.precisions`."""
        from haversack.convert.targets.ort.precisions import table
        from haversack.convert.targets.precisions import names

        return names(table, node)

    def write(
        self,
        model: ir.Model,
        recipe: str,
        path: Path,
        options: Options,
        runtime: Runtime = "onnxruntime-mobile",
    ) -> Written:
        """Write `path`, and beside it `<stem>.ort` and the config of a build for it unless options say no.

        Args:
            model: The compressed hub graph; not changed.
            recipe: How it was compressed.
            path: Of the `.onnx`.
            options: `io_dtype` and `ort_format` matter here.
            runtime: Where it is to run.

        Returns:
            The artifact, its companions, its layers (empty for recipes that verification judges end to end), notes.

        Raises:
            UnsupportedError: onnxruntime rejects the model; nothing was written.
        """
        found = self.preflight(model, recipe, options, runtime)
        if found:
            raise UnsupportedError(self.name, found)
        lowered = _lowered(model, recipe, options)
        content = lowered.proto.SerializeToString(deterministic=True)
        reason = preflight.rejected(content, optimised=True)
        if reason is not None:
            edit = "convert it as fp32 or int8-weights, and report this model"
            raise UnsupportedError(self.name, [Blocker(str(model.graph.name), recipe, f"onnxruntime: {reason}", edit)])
        path.write_bytes(content)
        notes = [*lowered.notes]
        companions: tuple[Path, ...] = ()
        config: str | None = None
        if lowered.four_bits:
            notes.append(NO_ORT)
        elif options.ort_format:
            flat, beside = path.with_suffix(".ort"), path.with_name(f"{path.stem}{CONFIG}")
            write_ort(content, flat, fold=recipe not in PACKED)
            config = operator_config([flat])
            beside.write_text(config)
            companions = (flat, beside)
            if recipe != "int8" and any(node.op_type == "Conv" for node in lowered.proto.graph.node):
                notes.append(SLOW_ORT)
        return Written(
            path, companions, lowered.layers, tuple(notes), MIN_RUNTIME,
            deployment=_deployment(lowered.named, config, f"{path.stem}{CONFIG}"),
        )  # fmt: skip

    def deployment(self, model: ir.Model, recipe: str, options: Options) -> Deployment:
        """How the artifact would get onto devices, before it is written; `model` has no blockers."""
        lowered = _lowered(model, recipe, options)
        if lowered.four_bits:
            return _deployment(lowered.named, None, "")
        with tempfile.TemporaryDirectory() as folder:
            flat = Path(folder) / "model.ort"
            write_ort(lowered.proto.SerializeToString(), flat, fold=recipe not in PACKED)
            config = operator_config([flat])
        return _deployment(lowered.named, config, f"model{CONFIG}")


@dataclass(frozen=True)
class _Lowered:
    """A model as its artifact has it.

    Attributes:
        proto: Names shortened, ready to be written.
        named: The same serialized with its nodes' names; empty of a model that is too large to look at twice.
        layers: The map back to the hub.
        notes: What the user should know.
        four_bits: Whether it holds tensors of 4 bits.
    """

    proto: onnx.ModelProto
    named: bytes
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]
    four_bits: bool


def _lowered(model: ir.Model, recipe: str, options: Options) -> _Lowered:
    copy = unit_scales(model).clone()
    editor = Editor(copy.graph)
    notes: list[str] = []
    held: dict[str, str] = {}
    if options.io_dtype == "int8":
        held, notes = edges.integer_edges(editor)
    if recipe == "int16":
        notes.append(NO_INT16)
    if recipe == "int8-dynamic":
        floats = foldable.float_convolutions(editor)
        if floats:
            notes.append(
                f"{len(floats)} convolutions compute in float32 on int8 weights ({floats[0]} is the first): "
                "onnxruntime's ConvInteger runs many times slower"
            )
    classical = sorted({node.op_type for node in copy.graph if node.domain == ML})
    if classical and recipe != "fp32":
        notes.append(f"{', '.join(classical)} hold their numbers as attributes, which no recipe makes smaller")
    foldable.fold_weights(editor)
    encoded = unsigned.to_unsigned(editor)
    shrink.drop_saturated(copy.graph)
    integers.move_integers(editor)
    integers.narrow_biases(editor)
    integers.drop_zero_points(editor)
    shrink.factor_bias_scales(editor)
    defaults.drop_defaults(copy.graph, copy.opset_imports[""])
    drop_unused_initializers(copy.graph)
    shrink.share_initializers(copy.graph)
    copy.graph.sort()
    mapped = layers.layers(copy.graph, encoded, held)
    foldable.keep_float(editor)
    proto = ir.to_proto(copy)
    proto.graph.ClearField("metadata_props")
    named = proto.SerializeToString() if proto.ByteSize() <= ANALYSED else b""
    renamed = shrink.shorten_names(proto)
    shrink.strip(proto)
    four_bits = any(value.dtype in (ir.DataType.INT4, ir.DataType.UINT4) for value in copy.graph.initializers.values())
    return _Lowered(proto, named, layers.rename(mapped, renamed), tuple(notes), four_bits)


def _deployment(named: bytes, config: str | None, name: str) -> Deployment:
    fits = provider_fits(named) if named else ()
    return Deployment(PACKAGES, fits, None if config is None else reduced_build(config, name))


TARGET = OrtTarget()
