"""The TFLite target: hub graph → `.tflite`, written directly, run by LiteRT.

resize_at_run_time.py  the driver over several sizes; symbolic.py one graph for all of them
lower.py     the driver: layout, quantized view, one lowering a node
layout.py    channels-first to channels-last, as one exact optimisation
ops/         the lowerings, a family a file
builder.py   what lowerings build with; steps.py the single steps they are composed of
control.py   operators that run subgraphs
expand.py    palettes and blocks, written out
kernels.py   which element types each kernel takes, in which version
fuse.py      what one operator can do that several were emitted for
write.py     the FlatBuffer; schema.py its tables
layers.py    the map back to the hub; extract.py cuts layers out of a file
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from haversack.convert.compress.recipes import WEIGHTS
from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets import Options, Written

if TYPE_CHECKING:
    import onnx_ir as ir

    from haversack.convert.targets.tflite.graph import Graph


class TFLite:
    """Implements `haversack.convert.targets.Target`."""

    name = "tflite"
    suffix = ".tflite"
    recipes = ("fp32", "fp16", "int8", "int16", "int8-dynamic", *WEIGHTS)

    def preflight(self, model: ir.Model, recipe: str, options: Options) -> list[Blocker]:  # noqa: ARG002
        """Every reason why `model`, compressed by `recipe`, cannot be lowered; empty means it can."""
        from haversack.convert.targets.tflite.lower import lower
        from haversack.convert.targets.tflite.resize_at_run_time import lowered_for_all

        blockers = lower(model, options).blockers
        if blockers or options.resizing is None or not options.resizing.others:
            return blockers
        try:
            lowered_for_all(model, options)
        except UnsupportedError as error:
            return list(error.blockers)
        return []

    def precisions(self, node: ir.Node) -> tuple[str, ...]:
        """The precisions that it can hold a layer of the float hub graph in; see `targets.precisions`."""
        from haversack.convert.targets.precisions import names
        from haversack.convert.targets.tflite.precisions import table

        return names(table, node)

    def write(self, model: ir.Model, recipe: str, path: Path, options: Options) -> Written:  # noqa: ARG002
        """Lower the compressed hub graph `model` and write the artifact at `path`; `model` is not changed.

        Raises:
            UnsupportedError: The target cannot hold the model; nothing was written.
        """
        from haversack.convert.targets.tflite import runtimes
        from haversack.convert.targets.tflite.layers import layers, transposes
        from haversack.convert.targets.tflite.resize_at_run_time import lowered_for_all
        from haversack.convert.targets.tflite.write import write

        lowered = lowered_for_all(model, options)
        index, outside = write(lowered.graph, path)
        return Written(
            path,
            layers=layers(lowered.graph, lowered.places, index),
            notes=(*lowered.notes, *_memory_note(lowered.graph)),
            min_runtime=runtimes.minimum(
                (op for each in lowered.graph.graphs() for op in each.operators), outside=outside
            ),
            transposes=transposes(lowered),
            moved=lowered.moved,
        )


def _memory_note(graph: Graph) -> list[str]:
    """What constants that are widened at start cost: LiteRT keeps the float32 copy beside the file."""
    widened = [
        op.outputs[0].size * 4
        for each in graph.graphs()
        for op in each.operators
        if op.code == "DEQUANTIZE" and op.inputs[0] is not None and op.inputs[0].constant
    ]
    if not widened:
        return []
    return [f"{len(widened)} constants are widened at start to {sum(widened):,} bytes of float32 in memory."]


TARGET = TFLite()
