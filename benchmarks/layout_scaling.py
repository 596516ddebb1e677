"""What the layout assignment and a whole conversion to TFLite cost against the size of the graph.

    python -m benchmarks.layout_scaling                          every family at 1,000, 2,000 and 5,000 nodes
    python -m benchmarks.layout_scaling --sizes 5000 --stages    and each stage of the conversion

The families are the shapes that real networks have: dense concatenations, residual sums, channel shuffles, searched
cells, long 1-D and 3-D stacks, attention, and all of them in one graph. Figures are CPU seconds of one process, with
one thread; the conversion is everything but verification.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = (1000, 2000, 5000)


class Network:
    """A graph under construction: every weight is its own initializer, as exporters write it."""

    def __init__(self, shape: tuple[int, ...]):
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes = {"x": shape}
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.nodes)

    def weight(self, shape: Sequence[int], scale: float = 0.1) -> str:
        """A random weight."""
        return self.constant((scale * self._random.standard_normal(shape)).astype(np.float32))

    def constant(self, array: Any) -> str:
        """An initializer."""
        self.weights.append(numpy_helper.from_array(np.asarray(array), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, op: str, inputs: Sequence[str], shape: tuple[int, ...], **attributes: Any) -> str:
        """Add a node of one output of `shape`; returns its name."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.shapes[name] = shape
        return name

    def conv(self, x: str, channels: int, kernel: int = 3, group: int = 1) -> str:
        """A convolution that keeps the image's size, with a bias."""
        batch, own, *spatial = self.shapes[x]
        rank = len(spatial)
        weights = [self.weight((channels, own // group, *[kernel] * rank)), self.weight((channels,))]
        pads = [kernel // 2] * 2 * rank
        shape = (batch, channels, *spatial)
        return self.add("Conv", [x, *weights], shape, kernel_shape=[kernel] * rank, pads=pads, group=group)

    def relu(self, x: str) -> str:
        """A rectifier."""
        return self.add("Relu", [x], self.shapes[x])

    def sum(self, x: str, y: str) -> str:
        """An addition of equal shapes."""
        return self.add("Add", [x, y], self.shapes[x])

    def concat(self, parts: Sequence[str]) -> str:
        """A concatenation of channels."""
        batch, _, *spatial = self.shapes[parts[0]]
        channels = sum(self.shapes[part][1] for part in parts)
        return self.add("Concat", parts, (batch, channels, *spatial), axis=1)

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """A reshape to a constant shape."""
        return self.add("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x: str, perm: Sequence[int]) -> str:
        """A transpose."""
        return self.add("Transpose", [x], tuple(self.shapes[x][axis] for axis in perm), perm=list(perm))

    def model(self, output: str) -> onnx.ModelProto:
        """The finished graph."""
        graph = helper.make_graph(
            self.nodes,
            "scaling",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shapes["x"])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, self.shapes[output])],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def dense(net: Network, x: str, _: int) -> str:
    """A DenseNet block of 24 layers, each reading all before it, and the transition that narrows it again."""
    parts = [x]
    for _layer in range(24):
        joined = net.concat(parts) if len(parts) > 1 else x
        parts.append(net.conv(net.relu(net.conv(net.relu(joined), 8, 1)), 4))
    return net.conv(net.relu(net.concat(parts)), 8, 1)


def residual(net: Network, x: str, _: int) -> str:
    """A residual block."""
    return net.relu(net.sum(x, net.conv(net.relu(net.conv(x, 8)), 8)))


def shuffle(net: Network, x: str, _: int) -> str:
    """A ShuffleNet unit: grouped convolutions around a channel shuffle."""
    n, c, *spatial = net.shapes[x]
    y = net.relu(net.conv(x, c, 1, 2))
    y = net.reshape(y, (n, 2, c // 2, *spatial))
    y = net.transpose(y, (0, 2, 1, *range(3, 3 + len(spatial))))
    y = net.conv(net.reshape(y, (n, c, *spatial)), c, 3, c)
    return net.relu(net.sum(x, net.conv(y, c, 1, 2)))


def cell(net: Network, x: str, number: int) -> str:
    """A searched cell: five sums of separable convolutions, pools and skips over the two cells before."""
    before = net.cells[-1] if hasattr(net, "cells") else x
    net.cells = [x]  # type: ignore[attr-defined]
    states = [net.conv(net.relu(before), 8, 1), net.conv(net.relu(x), 8, 1)]
    for step in range(5):
        left, right = states[(number + step) % len(states)], states[-1]
        y = net.conv(net.conv(net.relu(left), 8, 3, 8), 8, 1)
        pool = net.add("AveragePool", [right], net.shapes[right], kernel_shape=[3] * 2, pads=[1] * 4)
        states.append(net.sum(y, pool if step % 2 else right))
    return net.conv(net.concat(states[2:]), 8, 1)


def gated(net: Network, x: str, _: int) -> str:
    """A WaveNet layer: a gate of two convolutions and a residual sum."""
    gate = net.add("Sigmoid", [net.conv(x, 8)], net.shapes[x])
    y = net.add("Mul", [net.add("Tanh", [net.conv(x, 8)], net.shapes[x]), gate], net.shapes[x])
    return net.sum(x, net.conv(y, 8, 1))


def attention(net: Network, x: str, _: int) -> str:
    """A transformer block on (batch, tokens, 16), with two heads."""
    n, t, c = net.shapes[x]

    def heads(order: tuple[int, ...]) -> str:
        y = net.add("MatMul", [normal, net.weight((c, c))], (n, t, c))
        y = net.add("Add", [y, net.weight((c,))], (n, t, c))
        return net.transpose(net.reshape(y, (n, t, 2, c // 2)), order)

    def normalized(y: str) -> str:
        return net.add("LayerNormalization", [y, net.weight((c,)), net.weight((c,))], (n, t, c))

    normal = normalized(x)
    query, key, value = heads((0, 2, 1, 3)), heads((0, 2, 3, 1)), heads((0, 2, 1, 3))
    scores = net.add("MatMul", [query, key], (n, 2, t, t))
    scores = net.add("Softmax", [net.add("Mul", [scores, net.constant(np.float32(0.3))], (n, 2, t, t))], (n, 2, t, t))
    y = net.transpose(net.add("MatMul", [scores, value], (n, 2, t, c // 2)), (0, 2, 1, 3))
    y = net.add("MatMul", [net.reshape(y, (n, t, c)), net.weight((c, c))], (n, t, c))
    x = net.sum(x, y)
    y = net.add("MatMul", [normalized(x), net.weight((c, 2 * c))], (n, t, 2 * c))
    y = net.add("MatMul", [net.add("Gelu", [y], (n, t, 2 * c)), net.weight((2 * c, c))], (n, t, c))
    return net.sum(x, y)


def excited(net: Network, x: str, number: int) -> str:
    """A convolution block with squeeze-and-excitation, and attention over the pixels in every fourth."""
    n, c, h, w = net.shapes[x]
    y = net.relu(net.conv(x, c))
    pooled = net.add("Flatten", [net.add("GlobalAveragePool", [y], (n, c, 1, 1))], (n, c))
    scale = net.add("Sigmoid", [net.add("MatMul", [pooled, net.weight((c, c))], (n, c))], (n, c))
    y = net.add("Mul", [y, net.reshape(scale, (n, c, 1, 1))], (n, c, h, w))
    if number % 4 == 0:
        tokens = net.transpose(net.reshape(y, (n, c, h * w)), (0, 2, 1))
        tokens = net.add("MatMul", [tokens, net.weight((c, c))], (n, h * w, c))
        tokens = net.add("LayerNormalization", [tokens, net.weight((c,)), net.weight((c,))], (n, h * w, c))
        y = net.reshape(net.transpose(tokens, (0, 2, 1)), (n, c, h, w))
    return net.sum(x, y)


def mixture(net: Network, x: str, number: int) -> str:
    """One block of each 2-D family after the other."""
    return (residual, shuffle, cell, excited, dense)[number % 5](net, x, number)


FAMILIES: dict[str, tuple[tuple[int, ...], Callable[[Network, str, int], str]]] = {
    "dense": ((1, 8, 8, 8), dense),
    "residual": ((1, 8, 8, 8), residual),
    "shuffle": ((1, 8, 8, 8), shuffle),
    "cells": ((1, 8, 8, 8), cell),
    "1-D": ((1, 8, 32), gated),
    "3-D": ((1, 8, 4, 4, 4), residual),
    "attention": ((1, 8, 16), attention),
    "mixture": ((1, 8, 8, 8), mixture),
}


def network(family: str, nodes: int) -> onnx.ModelProto:
    """A network of a family with at least so many nodes (a block more at most)."""
    shape, block = FAMILIES[family]
    net, x = Network(shape), "x"
    for number in itertools.count():
        x = block(net, x, number)
        if len(net) >= nodes:
            return net.model(x)
    raise AssertionError


def timed(result: dict[str, float], name: str, call: Callable[[], Any]) -> Any:
    """Call, and note its CPU seconds."""
    start = time.process_time()
    value = call()
    result[name] = time.process_time() - start
    return value


def measure(proto: onnx.ModelProto) -> tuple[dict[str, float], Any]:
    """CPU seconds of each stage of a conversion without verification, and the layout found."""
    import onnx_ir as ir

    from haversack.convert.hub.load import to_hub
    from haversack.convert.targets import Options
    from haversack.convert.targets.tflite.fuse import fuse
    from haversack.convert.targets.tflite.layout import assign
    from haversack.convert.targets.tflite.lower import lower
    from haversack.convert.targets.tflite.write import serialize

    took: dict[str, float] = {}
    hub = timed(took, "hub", lambda: to_hub(ir.from_proto(proto)))
    layout = timed(took, "layout", lambda: assign(hub))
    lowered = timed(took, "lower", lambda: lower(hub, Options()))
    took["lower"] -= took["layout"]
    assert not lowered.blockers, lowered.blockers
    timed(took, "fuse", lambda: fuse(lowered.graph))
    timed(took, "write", lambda: serialize(lowered.graph))
    return took, layout


def converted(proto: onnx.ModelProto) -> float:
    """CPU seconds of `convert(verify=False)` from a file to a file, in this process."""
    from haversack.convert import convert

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        start = time.process_time()
        convert(path, to="tflite", output=Path(folder) / "model.tflite", verify=False)
        return time.process_time() - start


def main() -> None:
    """Print one line a family and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--stages", action="store_true", help="the stages of a conversion, and all of it")
    given = parser.parse_args()
    measure(network("residual", 20))  # imports are not what is measured
    for family in given.families:
        for size in given.sizes:
            proto = network(family, size)
            took, layout = measure(proto)
            line = f"{family:<10} {len(proto.graph.node):>6} nodes  layout {took['layout']:6.2f} s"
            if given.stages:
                rest = "  ".join(f"{name} {took[name]:6.2f}" for name in ("hub", "lower", "fuse", "write"))
                line += f"  {rest}  whole {converted(proto):6.2f} s"
            print(f"{line}  {len(layout.transposes)} transposes, {layout.bytes:,} bytes", flush=True)


if __name__ == "__main__":
    main()
