"""Known failures, planted in real models: each computes in floats what it did, and fails in int8 for one known reason.

outlier_channel   one channel of an activation is a hundred times larger, and the weights that read it as much smaller
unlike_concat     a layer becomes two whose outputs are joined again, one of them a thousand times larger
detector          a trained detection head that gives boxes in pixels and scores from 0 to 1 as one tensor
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CROPS, PIXELS, CLASSES, HIDDEN = 4, 144, 10, 96
"""The detector looks at four crops of 12 by 12 pixels at once, and knows ten digits."""

CANVAS = 320.0
"""Boxes are in pixels of an image of this size."""


def arrays_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The initializers by name."""
    return {each.name: numpy_helper.to_array(each).copy() for each in model.graph.initializer}


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node of that name."""
    return next(node for node in model.graph.node if node.name == name)


def put(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Give an initializer other values."""
    held = next(each for each in model.graph.initializer if each.name == name)
    held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))


def outlier_channel(
    model: onnx.ModelProto, writes: str, reads: str, channel: int, factor: float = 100.0
) -> onnx.ModelProto:
    """Make one channel between two layers larger.

    Args:
        model: Not changed; between the layers lies nothing but a ReLU.
        writes: Name of the layer that gives the channel, a Conv.
        reads: Name of the one that reads it, a Conv.
        channel: Which.
        factor: By how much.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    arrays, first, second = arrays_of(made), node_of(made, writes), node_of(made, reads)
    for name in first.input[1:3]:
        arrays[name][channel] *= factor
        put(made, name, arrays[name])
    weights = arrays[second.input[1]]
    if weights.shape[1] == 1 and len(arrays[first.input[1]]) == len(weights):  # depthwise: a row is a channel
        weights[channel] /= factor
    else:
        weights[:, channel] /= factor
    put(made, second.input[1], weights)
    return made


def unlike_concat(model: onnx.ModelProto, writes: str, reads: str, factor: float = 1000.0) -> onnx.ModelProto:
    """Split a layer in two, scale the second half, and join both again in front of the layer that reads them.

    Args:
        model: Not changed; between the layers lies nothing but a ReLU.
        writes: Name of the layer that is split, a Conv.
        reads: Name of the one that reads it, a Conv of all channels.
        factor: How much larger the second half is.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    arrays, first, second = arrays_of(made), node_of(made, writes), node_of(made, reads)
    relu = next(node for node in made.graph.node if first.output[0] in node.input)
    half = len(arrays[first.input[1]]) // 2
    nodes = []
    for suffix, part, scale in (("small", slice(None, half), 1.0), ("large", slice(half, None), factor)):
        names = [f"{name}_{suffix}" for name in first.input[1:3]]
        for name, old in zip(names, first.input[1:3], strict=True):
            made.graph.initializer.append(numpy_helper.from_array((arrays[old][part] * scale).astype(np.float32), name))
        conv = helper.make_node("Conv", [first.input[0], *names], [f"{writes}_{suffix}_linear"], f"{writes}_{suffix}")
        conv.attribute.extend(first.attribute)
        nodes += [conv, helper.make_node("Relu", [conv.output[0]], [f"branch_{suffix}"], f"relu_{suffix}")]
    nodes.append(helper.make_node("Concat", ["branch_small", "branch_large"], [relu.output[0]], "join", axis=1))
    weights = arrays[second.input[1]]
    weights[:, half:] /= factor
    put(made, second.input[1], weights)
    kept = [node for node in made.graph.node if node.name not in (first.name, relu.name)]
    place = next(index for index, node in enumerate(made.graph.node) if node.name == first.name)
    del made.graph.node[:]
    made.graph.node.extend([*kept[:place], *nodes, *kept[place:]])
    used = {name for node in made.graph.node for name in node.input}
    left = [each for each in made.graph.initializer if each.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(left)
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    return made


def scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops of handwritten digits that lie somewhere in 12 by 12 pixels; an odd seed draws from other images.

    Returns:
        Crops [count, CROPS, PIXELS] in 0..1, boxes [count, CROPS, 4] (left, top, right, bottom) in pixels of the
        canvas, and digits [count, CROPS].
    """
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    images, digits = load_digits(return_X_y=True)
    ends = (
        (0, len(images) * 2 // 3) if seed % 2 == 0 else (len(images) * 2 // 3, len(images))
    )  # for judging: other ones
    chosen = rng.integers(*ends, (count, CROPS))
    crops = rng.uniform(0, 0.05, (count, CROPS, 12, 12)).astype(np.float32)
    boxes = np.zeros((count, CROPS, 4), np.float32)
    for row in range(count):
        for crop in range(CROPS):
            digit = images[chosen[row, crop]].reshape(8, 8) / 16
            top, left = rng.integers(0, 5, 2)
            crops[row, crop, top : top + 8, left : left + 8] += digit
            rows, columns = np.nonzero(digit > 0.2)
            corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            boxes[row, crop] = (np.array([left, top, left, top]) + corners) * (CANVAS / 12)
    return crops.reshape(count, CROPS, PIXELS), boxes, digits[chosen]


def detector(seed: int = 0) -> onnx.ModelProto:
    """A detection head, trained here in some seconds: `crops` [1, 4, 144] → `detections` [1, 4, 4 + 10]."""
    parameters = _trained(seed)
    nodes = [
        ("MatMul", ["crops", "w1"], "m1", {}), ("Add", ["m1", "b1"], "a1", {}), ("Relu", ["a1"], "features", {}),
        ("MatMul", ["features", "w_box"], "m2", {}), ("Add", ["m2", "b_box"], "boxes", {}),
        ("MatMul", ["features", "w_class"], "m3", {}), ("Add", ["m3", "b_class"], "logits", {}),
        ("Sigmoid", ["logits"], "scores", {}),
        ("Concat", ["boxes", "scores"], "detections", {"axis": 2}),
    ]  # fmt: skip
    made = [helper.make_node(op, ins, [out], f"{op.lower()}_{out}", **attrs) for op, ins, out, attrs in nodes]
    graph = helper.make_graph(
        made,
        "detector",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["batch", CROPS, PIXELS])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", CROPS, 4 + CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in parameters.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _trained(seed: int, steps: int = 2500, size: int = 64) -> dict[str, np.ndarray]:
    """Adam (Kingma and Ba, 2015) on squared error of the boxes and cross entropy of each score."""
    rng = np.random.default_rng(seed)
    crops, boxes, digits = scenes(2000, 2 * seed)
    x = crops.reshape(-1, PIXELS)
    y_box, y_class = boxes.reshape(-1, 4) / CANVAS, np.eye(CLASSES)[digits.reshape(-1)]

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, np.sqrt(2 / shape[0]), shape)

    p = {
        "w1": drawn(PIXELS, HIDDEN), "b1": np.zeros(HIDDEN),
        "w_box": drawn(HIDDEN, 4), "b_box": np.full(4, 0.5),
        "w_class": drawn(HIDDEN, CLASSES), "b_class": np.full(CLASSES, -2.0),
    }  # fmt: skip
    mean, square = ({name: np.zeros_like(value) for name, value in p.items()} for _ in range(2))
    for step in range(1, steps + 1):
        chosen = rng.integers(len(x), size=size)
        hidden = np.maximum(x[chosen] @ p["w1"] + p["b1"], 0)
        scores = 1 / (1 + np.exp(-(hidden @ p["w_class"] + p["b_class"])))
        to_box = 8 * (hidden @ p["w_box"] + p["b_box"] - y_box[chosen]) / size
        to_class = (scores - y_class[chosen]) / size
        to_hidden = (to_box @ p["w_box"].T + to_class @ p["w_class"].T) * (hidden > 0)
        gradients = {
            "w1": x[chosen].T @ to_hidden, "b1": to_hidden.sum(0), "w_box": hidden.T @ to_box, "b_box": to_box.sum(0),
            "w_class": hidden.T @ to_class, "b_class": to_class.sum(0),
        }  # fmt: skip
        rate = 3e-3 * (1 - step / (steps + 1))
        for name, gradient in gradients.items():
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.999 * square[name] + 0.001 * gradient**2
            p[name] -= rate * (mean[name] / (1 - 0.9**step)) / (np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8)
    p["w_box"] *= CANVAS
    p["b_box"] *= CANVAS
    return p


def detected(outputs: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The share of crops whose digit is right, scored above 0.3, in a box that overlaps the true one by half (IoU).

    Args:
        outputs: `detections` [samples, CROPS, 4 + CLASSES].
        labels: [samples], the seed's index of each scene: truth is made anew, since DATA carries one label a sample.
    """
    _, boxes, digits = scenes(int(labels.max()) + 1, EVALUATION_SEED)
    boxes, digits = boxes[labels], digits[labels]
    found = outputs["detections"]
    low, high = np.maximum(found[..., :2], boxes[..., :2]), np.minimum(found[..., 2:4], boxes[..., 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(each[..., 2:4] - each[..., :2], 0), axis=-1) for each in (found, boxes)]
    overlap = inside / np.maximum(areas[0] + areas[1] - inside, 1e-9)
    scores = found[..., 4:]
    right = (scores.argmax(axis=-1) == digits) & (scores.max(axis=-1) > 0.3) & (overlap > 0.5)
    return np.asarray(right.mean(axis=1))


EVALUATION_SEED, CALIBRATION_SEED = 5, 2


def detector_files(folder: Path, evaluation: int = 300, calibration: int = 100) -> tuple[Path, Path, Path]:
    """Write the detector and its data: the model, calibration and evaluation `.npz`."""
    model, first, second = folder / "detector.onnx", folder / "calibration.npz", folder / "evaluation.npz"
    onnx.save(detector(), model)
    np.savez(first, crops=scenes(calibration, CALIBRATION_SEED)[0])
    np.savez(second, crops=scenes(evaluation, EVALUATION_SEED)[0], label=np.arange(evaluation))
    return model, first, second
