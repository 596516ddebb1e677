"""Methods by name, in the places where a compression calls them.

    float graph → `before` → float graph → `round_weights` → float graph on grids, integers → QDQ → `after` → QDQ

`before` rescales what no data is needed for, `round_weights` chooses integers, `after` moves biases once activations
are integers too. Each returns what it got where none of its methods is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.methods import Methods
from haversack.convert.compress.methods.reconstruct import Choice, Rounder, Wanted, reconstruct
from haversack.convert.compress.operators import constant
from haversack.convert.compress.qdq import Rounded
from haversack.convert.compress.weights import Weights
from haversack.runtimes.engines import Array

Batches = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Prepared:
    """A float graph whose layers have their final weights.

    Attributes:
        model: Its weights are what the integers stand for; biases may have moved.
        integers: By node name; what `qdq.insert` takes.
        notes: What the user should know.
    """

    model: ir.Model
    integers: dict[str, Rounded] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def before(model: ir.Model, methods: Methods) -> tuple[ir.Model, list[str]]:
    """Rescale the channels of a float graph."""
    if "equalize" not in methods:
        return model, []
    from haversack.convert.compress.methods.equalization import equalize

    made = equalize(model)
    return made.model, made.notes


def round_weights(
    model: ir.Model,
    wanted: Mapping[str, Wanted],
    methods: Methods,
    batches: Batches = (),
    progress: Progress | None = None,
    four: frozenset[str] = frozenset(),
) -> Prepared:
    """Choose the integers of layers' weights.

    Args:
        model: The float hub graph; not changed.
        wanted: By node name.
        methods: Those that round or choose scales; with none of them nothing is done.
        batches: Of calibration data.
        progress: Told after each layer.
        four: Nodes whose integers are held in four bits.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    rounder: Rounder | None = None
    if "adaround" in methods:
        from haversack.convert.compress.methods.adaround import adaround

        rounder = adaround
    elif "second-order" in methods:
        from haversack.convert.compress.methods.rounders import second_order

        rounder = second_order
    given = any(each.step is not None or each.limit != Wanted.limit for each in wanted.values())
    if rounder is None and "fitted-scales" not in methods and not given:
        return Prepared(model)
    # Without a rounder biases stay: `after` corrects them, once it is known what activations add.
    choice = Choice(rounder, fitted="fitted-scales" in methods, bias=rounder is not None)
    seen = batches if rounder is not None or choice.fitted else ()
    made = reconstruct(model, wanted, choice, seen, progress)
    nodes = {str(node.name): node for node in made.model.graph}
    integers = {}
    for name, grid in made.grids.items():
        array = constant(nodes[name].inputs[1])
        assert array is not None
        integers[name] = Rounded(Weights(grid.integers(array), np.asarray(grid.scale), grid.axis), name in four)
    return Prepared(made.model, integers, made.notes)


def after(
    model: ir.Model, quantized: ir.Model, methods: Methods, batches: Batches, progress: Progress | None = None
) -> tuple[ir.Model, dict[str, Array]]:
    """Correct the biases of a quantized graph.

    Args:
        model: The float graph, as `before` left it.
        quantized: What was made of it; not changed.
        methods: Those that correct biases; with none of them nothing is done.
        batches: Of calibration data.
        progress: Told after each layer.

    Returns:
        The graph, and what was added to the bias of each node: `again` adds it to the same model at other sizes.
    """
    from haversack.convert.compress.methods import bias_correction

    if not batches:
        return quantized, {}
    if "bias-correction" in methods:
        made = bias_correction.empirical(model, quantized, batches, progress)
    elif "analytic-bias-correction" in methods:
        made = bias_correction.analytic(model, quantized, bias_correction.input_means(model, batches))
    else:
        return quantized, {}
    return made.model, made.shifts


def again(model: ir.Model, prepared: Prepared) -> ir.Model:
    """The same float model at other sizes, with the weights and biases that `round_weights` chose."""
    from haversack.convert.compress.editing import Editor, set_constant

    copy = model.clone()
    editor = Editor(copy.graph)
    nodes = {str(node.name): node for node in copy.graph}
    for node in prepared.model.graph:
        other = nodes.get(str(node.name))
        if other is None or str(node.name) not in prepared.integers:
            continue
        for index in range(1, len(node.inputs)):
            value, array = node.inputs[index], constant(node.inputs[index])
            if value is not None and array is not None:
                set_constant(editor, other, index, array, str(value.name))
    return copy


def shift_again(model: ir.Model, shifts: Mapping[str, Array]) -> ir.Model:
    """Add to the biases of the same quantized model at other sizes, in place, what `after` added."""
    from haversack.convert.compress.editing import Editor
    from haversack.convert.compress.methods.bias_correction import shift

    editor = Editor(model.graph)
    for node in list(model.graph):
        if str(node.name) in shifts:
            shift(editor, node, shifts[str(node.name)])
    return model
