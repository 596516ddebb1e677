"""Core ML: the hub graph lowered to MIL with coremltools' builder, saved as an `.mlpackage`.

| module      | what it does                                                            |
|-------------|-------------------------------------------------------------------------|
| `sdk`       | imports coremltools quietly, without the frameworks it looks for        |
| `lower`     | the driver: node by node, blockers collected                            |
| `builder`   | constants, precision and names, for the lowerings                       |
| `attention` | attention in one op, from iOS 18 on                                     |
| `edges`     | inputs and outputs: names, shapes and types in the package              |
| `stored`    | compressed weights as MIL's `constexpr_*`                               |
| `ops/`      | the lowerings, one family a file                                        |
| `states`    | inputs that are kept from call to call, from iOS 18 on                  |
| `flexible`  | one program for several sizes; `operands` computes what depends on them  |
| `layers`    | which package variable holds which hub value                            |
| `write`     | program → package, reproducible bytes                                   |
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from haversack.convert.compress.recipes import HALF, STORAGES, WEIGHTS
from haversack.convert.errors import Blocker, UnsupportedError, UsageError
from haversack.convert.targets import Options, Written
from haversack.convert.targets.coreml.stored import lowest
from haversack.convert.targets.refusals import classical
from haversack.convert.targets.unit_scales import unit_scales

if TYPE_CHECKING:
    from haversack.convert.targets.coreml.lower import Lowered

DEPLOYMENT_TARGETS = {"iOS15": 15, "iOS16": 16, "iOS17": 17, "iOS18": 18}


class CoreML:
    """The target `coreml`.

    float32 compute for `fp32` and compressed weights, float16 for `fp16` and `..-fp16`; `int8` computes on floats
    between quantized activations (iOS 17). Inputs and outputs are float32 whatever the precision inside.
    """

    name = "coreml"
    suffix = ".mlpackage"
    recipes: tuple[str, ...] = ("fp32", "fp16", "int8", *WEIGHTS, *(name + HALF for name in WEIGHTS))

    def preflight(self, model: ir.Model, recipe: str, options: Options) -> list[Blocker]:
        """Every reason why `model`, compressed by `recipe`, cannot be lowered; the lowering itself is tried."""
        ios = _ios(model, recipe, options)
        if refusal := _refusal(recipe, ios, options):
            return [refusal]
        if refused := classical("coreml", model):
            return refused
        return _lowered(model, recipe, ios, options).blockers

    def precisions(self, node: ir.Node) -> tuple[str, ...]:
        """The precisions that it can hold a layer of the float hub graph in; see `targets.precisions`."""
        from haversack.convert.targets.coreml.precisions import table
        from haversack.convert.targets.precisions import names

        return names(table, node)

    def write(self, model: ir.Model, recipe: str, path: Path, options: Options) -> Written:
        """Lower `model` and save it as the package `path`.

        Raises:
            UnsupportedError: Core ML cannot hold the model; nothing was written.
        """
        ios = _ios(model, recipe, options)
        if refusal := _refusal(recipe, ios, options):
            raise UnsupportedError(self.name, [refusal])
        if refused := classical("coreml", model):
            raise UnsupportedError(self.name, refused)
        from haversack.convert.targets.coreml.layers import layers
        from haversack.convert.targets.coreml.write import write

        if options.resizing is None:
            model = unit_scales(model)
        lowered = _lowered(model, recipe, ios, options)
        if lowered.blockers:
            raise UnsupportedError(self.name, lowered.blockers)
        saved = write(lowered.program, ios, path)
        return Written(
            path=path,
            layers=() if options.states else layers(model.graph, lowered.steps, saved),
            notes=lowered.notes,
            min_runtime=f"iOS{ios}",
        )


def _lowered(model: ir.Model, recipe: str, ios: int, options: Options) -> Lowered:
    """The MIL program, of one size or of several."""
    from haversack.convert.targets.coreml.flexible import lower_flexible
    from haversack.convert.targets.coreml.lower import lower

    half, float32_nodes = recipe.endswith("fp16"), options.float32_nodes
    if options.resizing is not None:
        return lower_flexible(options.resizing, ios, half=half, float32_nodes=float32_nodes)
    return lower(model, ios, half=half, float32_nodes=float32_nodes, images=options.images, pairs=options.states)


def _ios(model: ir.Model, recipe: str, options: Options) -> int:
    """The deployment target asked for, or the oldest that holds the model as it is compressed.

    That is 17 where activations are quantized, and 18 where weights are in int4, in blocks or in a palette a group, or
    where the sizes of several inputs are enumerated.

    Raises:
        UsageError: There is no such deployment target.
    """
    if options.deployment_target is None:
        quantized = recipe == "int8" or any(node.op_type == "QuantizeLinear" for node in model.graph)
        several = options.resizing is not None and len(options.resizing.enumerated) > 1
        stored = lowest(model, STORAGES.get(recipe.removesuffix(HALF)))
        return max(17 if quantized else 16, 18 if several or options.states else 0, stored)
    if options.deployment_target not in DEPLOYMENT_TARGETS:
        known = ", ".join(DEPLOYMENT_TARGETS)
        raise UsageError(f"unknown deployment target {options.deployment_target!r}; known are {known}")
    return DEPLOYMENT_TARGETS[options.deployment_target]


def _refusal(recipe: str, ios: int, options: Options) -> Blocker | None:
    """Why the recipe as a whole cannot be held, if so."""
    if recipe == "int8-dynamic":
        reason = "Core ML has no integer arithmetic to quantize inputs for at run time"
        return Blocker("recipe", recipe, reason, "compress by int8-weights")
    if recipe == "int8" and ios < 17:
        reason = f"quantized activations need iOS 17, the deployment target is iOS {ios}"
        return Blocker("recipe", recipe, reason, "compress by int8-weights, or raise the deployment target")
    if options.io_dtype != "float32":
        reason = f"Core ML has no {options.io_dtype} inputs and outputs"
        return Blocker("options", recipe, reason, "leave --io-dtype at float32")
    if options.io_layout != "keep":
        reason = "Core ML's own layout is the source's, channels first"
        return Blocker("options", recipe, reason, "leave --io-layout at keep")
    return None


TARGET = CoreML()
