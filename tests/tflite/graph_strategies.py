"""Random ONNX graphs of every family of operators, drawn by hypothesis node by node.

Each node is executed by onnxruntime as it is drawn (by onnx's reference evaluator where onnxruntime has no kernel). So
shapes and types need no rules here, a graph is valid by construction, and what the whole graph must compute is known.
A drawn node is dropped where onnxruntime rejects it, or where its result is not finite or not small.

`graph_operators.py` says what nodes are drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]

OPSETS = (7, 23)
LARGEST = 40.0
"""Magnitude of float results: far from float16's 65,504, and a float32 sum of some hundred products of such numbers
(and so any cancellation between them) is exact to 1e-4."""
ELEMENTS = 4096
HALVES = 3
"""float16 results in a row: LiteRT computes in float32, so every rounding of onnxruntime's is a difference."""

NUMBERS = ("float32", "float32", "float32", "float16", "int32", "int64")
ALL = (*NUMBERS, "bool", "int8", "uint8")

EXACT = frozenset(
    """Abs Clip Compress Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity MaxPool
    GlobalMaxPool Max Min Neg Pad ReduceMax ReduceMin Relu Reshape ReverseSequence ScatterElements ScatterND Slice
    SpaceToDepth Split Squeeze Tile TopK Transpose Trilu Unsqueeze Where OneHot Dropout Cast""".split()  # noqa: SIM905
)
"""Operators whose float results are their inputs' elements: exact where those are."""


@dataclass(frozen=True)
class Value:
    """A value of a drawn graph.

    Attributes:
        name: Its name.
        array: What it holds when the graph runs on the drawn inputs.
        exact: Whether any right implementation computes just that, so that a step function may read it.
        halves: How many float16 roundings it has been through.
        constant: Whether it is an initializer.
    """

    name: str
    array: Array
    exact: bool = True
    halves: int = 0
    constant: bool = False

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return str(self.array.dtype.name)

    @property
    def shape(self) -> Shape:
        """The sizes."""
        return tuple(self.array.shape)

    @property
    def rank(self) -> int:
        """The number of axes."""
        return self.array.ndim

    def within(self, low: float, high: float) -> bool:
        """Whether every element lies in a range."""
        return bool(np.all((self.array >= low) & (self.array <= high)))


@dataclass
class Drawn:
    """A drawn graph with its inputs and what it must compute: `outputs` in the model's order."""

    model: onnx.ModelProto
    feeds: dict[str, Array]
    outputs: list[Value]


@dataclass
class Sketch:
    """A graph under construction.

    Attributes:
        number: Gives one of the integers from its first to its second argument, both included; smaller is simpler.
        opset: What the graph is written for.
    """

    number: Callable[[int, int], int]
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    inputs: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Value] = field(default_factory=dict)

    # Draws.

    def integer(self, low: int, high: int) -> int:
        """One of low to high, both included."""
        return self.number(low, high)

    def integers(self, low: int, high: int, count: int) -> list[int]:
        """Several of them."""
        return [self.integer(low, high) for _ in range(count)]

    def flag(self) -> bool:
        """True or false."""
        return self.integer(0, 1) == 1

    def one_of(self, options: Iterable[Any]) -> Any:
        """One of several; earlier ones are simpler."""
        listed = list(options)
        return listed[self.integer(0, len(listed) - 1)]

    def shuffled(self, items: Iterable[Any]) -> list[Any]:
        """All of several, in any order."""
        rest, order = list(items), []
        while rest:
            order.append(rest.pop(self.integer(0, len(rest) - 1)))
        return order

    def axis(self, rank: int) -> int:
        """An axis, counted from the front or from the back."""
        place = self.integer(0, 2 * rank - 1)
        return place if place < rank else place - 2 * rank

    def axes(self, rank: int) -> list[int]:
        """Some of the axes, none twice, in any order, counted from either end."""
        chosen = self.shuffled(range(rank))[: self.integer(0, rank)]
        return [axis - rank if self.flag() else axis for axis in chosen]

    def shape(self, low: int = 0, high: int = 5) -> Shape:
        """Sizes of up to five axes, few elements."""
        rank = self.integer(low, high)
        return tuple(self.integers(1, 5 if rank < 4 else 3, rank))

    def broadcastable(self, shape: Shape) -> Shape:
        """A shape that broadcasts with `shape`."""
        start = self.integer(0, len(shape))
        return tuple(1 if self.integer(0, 3) == 0 else n for n in shape[start:])

    # Values.

    def pick(self, fits: Callable[[Value], bool], make: Callable[[], Value]) -> Value:
        """A value that fits, mostly one that there is, the newest first; else what `make` gives."""
        found = [value for value in reversed(self.values) if fits(value)]
        if found and self.integer(0, 5):
            return found[min(self.integer(0, 8), len(found) - 1)]
        return make()

    def operand(
        self, dtypes: Sequence[str] = NUMBERS, low: int = 0, high: int = 5, *, exact: bool = False,
        bounds: tuple[float, float] = (-4, 4),
    ) -> Value:  # fmt: skip
        """A value of one of several types and ranks; with other bounds than the default, within them."""

        def fits(value: Value) -> bool:
            inside = bounds == (-4, 4) or value.dtype == "bool" or value.within(*bounds)
            return value.dtype in dtypes and low <= value.rank <= high and inside and (value.exact or not exact)

        return self.pick(fits, lambda: self.leaf(self.one_of(dtypes), self.shape(low, high), bounds))

    def partner(self, value: Value, bounds: tuple[float, float] = (-4, 4), exact: bool = False) -> Value:
        """A value of the same type that broadcasts with another one."""

        def fits(other: Value) -> bool:
            if other.dtype != value.dtype or (exact and not other.exact):
                return False
            if bounds != (-4, 4) and not other.within(*bounds):
                return False
            return all(n == m or 1 in (n, m) for n, m in zip(other.shape[::-1], value.shape[::-1], strict=False))

        return self.pick(fits, lambda: self.leaf(value.dtype, self.broadcastable(value.shape), bounds))

    def leaf(
        self, dtype: str, shape: Shape, bounds: tuple[float, float] = (-4, 4), constant: bool | None = None
    ) -> Value:
        """A new input or initializer: multiples of 1/16 within the bounds."""
        random = np.random.default_rng(self.integer(0, 1 << 16))
        low, high = bounds
        if dtype == "bool":
            array = random.random(shape) < 0.5
        elif dtype.startswith("float"):
            array = (random.integers(np.ceil(low * 16), np.floor(high * 16), shape, endpoint=True) / 16).astype(dtype)
        else:
            low = max(low, 0) if dtype.startswith("u") else low
            array = random.integers(np.ceil(low), np.floor(high), shape, endpoint=True).astype(dtype)
        return self.hold(np.asarray(array)) if (self.flag() if constant is None else constant) else self.feed(array)

    def feed(self, array: Array) -> Value:
        """A new graph input."""
        value = Value(f"in{len(self.inputs)}", np.asarray(array))
        self.inputs[value.name] = value
        self.values.append(value)
        return value

    def hold(self, array: Any, dtype: str | None = None) -> Value:
        """An initializer; equal ones are shared by all nodes that ask for them."""
        array = np.asarray(array, dtype)
        for value in self.constants.values():
            if value.dtype == array.dtype.name and value.shape == array.shape and np.array_equal(value.array, array):
                return value
        value = Value(f"c{len(self.constants)}", array, constant=True)
        self.constants[value.name] = value
        return value

    def ints(self, numbers: Sequence[int]) -> Value:
        """An int64 vector, as shapes and axes are given."""
        return self.hold(np.array(numbers, np.int64).reshape(len(numbers)))

    def node(
        self, op: str, *inputs: Value | None, outputs: int = 1, domain_exact: bool = False, **attributes: Any
    ) -> list[Value]:
        """Add a node where onnxruntime runs it and its results are small; otherwise nothing."""
        names = [f"v{len(self.values)}_{n}" for n in range(outputs)]
        node = helper.make_node(op, [v.name if v else "" for v in inputs], names, f"n{len(self.nodes)}", **attributes)
        given = {value.name: value for value in inputs if value is not None}
        arrays = execute(node, given, self.opset)
        if arrays is None or not all(_is_small(array) for array in arrays):
            return []
        exact = (op in EXACT or domain_exact) and all(value.exact for value in given.values())
        halves = max((value.halves for value in given.values()), default=0)
        made = []
        for name, array in zip(names, arrays, strict=True):
            number = array.dtype.kind != "f"
            rounded = halves + (array.dtype == np.float16 and not exact)
            made.append(Value(name, array, number or exact, 0 if number else rounded))
        if any(value.halves > HALVES for value in made):
            return []
        self.nodes.append(node)
        self.values += made
        return made

    def node_with_axes(self, op: str, x: Value, axes: list[int] | None, since: int, **attributes: Any) -> None:
        """A node whose axes are an attribute before an opset, and an input from then on."""
        if axes is None or (self.opset < since and not axes):
            self.node(op, x, **attributes)
        elif self.opset < since:
            self.node(op, x, axes=axes, **attributes)
        else:
            self.node(op, x, self.ints(axes), **attributes)

    def finish(self) -> Drawn:
        """The model: outputs are what nothing reads, some intermediate values, and now and then an input itself."""
        read = {name for node in self.nodes for name in node.input}
        made = {name for node in self.nodes for name in node.output}
        chosen = [value for value in self.values if value.name in made and (value.name not in read or self.flag())]
        if self.inputs and self.integer(0, 7) == 0:
            chosen.append(self.one_of(self.inputs.values()))
        outputs = self.shuffled(chosen)
        if self.integer(0, 7) == 0:
            self.leaf("float32", (2,), constant=False)  # which nothing reads
        inputs = list(self.inputs.values())
        constants = [numpy_helper.from_array(value.array, value.name) for value in self.constants.values()]
        graph = helper.make_graph(
            self.nodes, "random", [_info(v) for v in inputs], [_info(v) for v in outputs], constants
        )
        return Drawn(_model(graph, self.opset), {value.name: value.array for value in inputs}, outputs)


def _is_small(array: Array) -> bool:
    if not 0 < array.size <= ELEMENTS or array.ndim > 6 or array.dtype.kind not in "fiub":
        return False
    return array.dtype.kind == "b" or bool(
        np.all(np.isfinite(array)) and np.all(np.abs(array.astype(np.float64)) <= LARGEST)
    )


def _info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(value.array.dtype), value.shape)


def _model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def execute(node: onnx.NodeProto, inputs: dict[str, Value], opset: int) -> list[Array] | None:
    """The results of one node; None where it is not valid, or nothing here can run it.

    Initializers stay initializers, since shape inference wants them.
    """
    import onnxruntime as ort
    from onnx.reference import ReferenceEvaluator

    constants = [numpy_helper.from_array(v.array, v.name) for v in inputs.values() if v.constant]
    given = [_info(v) for v in inputs.values() if not v.constant]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    model = _model(helper.make_graph([node], "node", given, outputs, constants), opset)
    feeds = {v.name: v.array for v in inputs.values() if not v.constant}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(array) for array in session.run(None, feeds)]
    except Exception as error:  # onnxruntime's and onnx's own classes, which share no base
        if "NOT_IMPLEMENTED" not in str(error):
            return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, feeds)]
    except Exception:
        return None
