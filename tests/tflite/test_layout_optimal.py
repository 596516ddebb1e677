"""No labelling costs less than the minimum cut's: every labelling of small random graphs is carried out and weighed."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from haversack.convert.targets.tflite.layout import CHANNELS_LAST, assign
from haversack.convert.targets.tflite.layout_frames import Frames
from haversack.convert.targets.tflite.layout_labels import Labels
from haversack.convert.targets.tflite.layout_rewrite import Rewriter
from haversack.convert.targets.tflite.mincut import SINK, SOURCE


def moved(model: ir.Model) -> tuple[int, int]:
    """Bytes that the Transposes of a graph move, and how many there are."""
    sizes = []
    for node in model.graph:
        if node.op_type == "Transpose":
            shape = node.outputs[0].shape
            assert shape is not None
            sizes.append(4 * int(np.prod([int(dim) for dim in shape])))
    return sum(sizes), len(sizes)


def cheapest(model: ir.Model, io_layout: str) -> tuple[int, int] | None:
    """The least that any labelling costs, by trying all; None where there are more than 2**8."""
    problem = Labels(model.graph, Frames(model.graph), io_layout == "channels-last")
    ends = {*problem.inputs.values(), *problem.outputs.values()}
    variables = sorted(ends.union(*(terms.values() for terms in problem.terms.values())) - {SOURCE, SINK})
    if len(variables) > 8:
        return None
    costs = []
    for states in itertools.product((0, 1), repeat=len(variables)):
        trial = model.clone()
        frames = Frames(trial.graph)
        labels = Labels(trial.graph, frames, io_layout == "channels-last")
        state = {SOURCE: 1, SINK: 0, **dict(zip(variables, states, strict=True))}
        ends = {value: state[term] for value, term in (*labels.inputs.items(), *labels.outputs.items())}
        of = labels.of
        rewriter = Rewriter(trial.graph, frames, lambda node, slot, s=state, of=of: s[of(node, slot)], CHANNELS_LAST)  # type: ignore[misc]
        rewriter.run(ends, labels.captured)
        costs.append(moved(trial))
    return min(costs)


def random_graph(seed: int) -> onnx.ModelProto:
    """Images of one shape through convolutions, free operators, pinned ones and Transposes, with branches."""
    random = Random(seed)
    nodes: list[onnx.NodeProto] = []
    constants = [numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")]
    images, others = ["x"], []  # [2, 3, 4, 5], and anything of other shapes
    if random.random() < 0.5:
        nodes.append(helper.make_node("Transpose", ["y"], ["y_first"], "first", perm=[0, 3, 1, 2]))
        images.append("y_first")
    for number in range(random.randint(3, 9)):
        x, out = random.choice(images[-3:]), f"v{number}"
        kind = random.choice(["Conv", "Conv", "Relu", "Add", "Add", "there and back", "pinned", "half", "away"])
        name = f"n{number}"
        images.append(out)
        if kind == "Conv":
            nodes.append(helper.make_node("Conv", [x, "w"], [out], name))
        elif kind == "Relu":
            nodes.append(helper.make_node("Relu", [x], [out], name))
        elif kind == "Add":
            nodes.append(helper.make_node("Add", [x, random.choice(images[:-1])], [out], name))
        elif kind == "pinned":  # Einsum keeps the logical order of its axes
            nodes.append(helper.make_node("Einsum", [x], [out], name, equation="nchw->nchw"))
        elif kind == "half":
            nodes.append(
                helper.make_node("Split", [x], [f"{out}_a", f"{out}_b", f"{out}_c"], name, axis=1, num_outputs=3)
            )
            nodes.append(
                helper.make_node("Concat", [f"{out}_c", f"{out}_a", f"{out}_b"], [out], f"{name}_join", axis=1)
            )
        else:
            perm = random.choice([[0, 2, 3, 1], [0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1, 3]])
            nodes.append(helper.make_node("Transpose", [x], [f"{out}_t"], f"{name}_away", perm=perm))
            nodes.append(helper.make_node(random.choice(["Relu", "Softmax"]), [f"{out}_t"], [f"{out}_r"], name))
            back = [perm.index(axis) for axis in range(4)]
            if kind == "away":
                others.append(f"{out}_r")
            nodes.append(helper.make_node("Transpose", [f"{out}_r"], [out], f"{name}_back", perm=back))
    outputs = list(dict.fromkeys([images[-1], *random.sample(images + others, k=random.randint(0, 1))]))
    outputs = [name for name in outputs if name not in ("x", "y")] or outputs
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 5])]
    inputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4, 5, 3]))
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "random", inputs, infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return shape_inference.infer_shapes(model, strict_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("io_layout", ["keep", "channels-last"])
def test_no_labelling_costs_less(io_layout: Any) -> None:
    tried = crowded = 0
    for seed in range(250):
        proto = random_graph(seed)
        model = ir.from_proto(proto)
        least = cheapest(model, io_layout)
        if least is None:
            crowded += 1
            continue
        layout = assign(model, io_layout)
        assert (layout.bytes, len(layout.transposes)) == least, onnx.printer.to_text(proto)
        assert moved(layout.model) == least
        tried += 1
    assert tried >= 100, f"{crowded} graphs had too many labellings to try"
