"""Shapes and element types of every value, and the binding of symbolic dimensions to sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import onnx_ir as ir

from haversack.convert.hub.skeleton import skeleton


def infer(model: ir.Model) -> ir.Model:
    """Infer the element type and shape of every value, in place, by onnx's own inference with data propagation.

    What inference finds wins over what the file declared; what it cannot find (a symbolic size, the output of an
    operator of another domain) stays as declared.

    Args:
        model: A graph whose values are named uniquely.

    Returns:
        `model`.
    """
    import onnx.shape_inference

    declared = {}
    for value in _computed(model):
        value.shape = declared[value] = _without_generated(value.shape)
        producer = value.producer()
        assert producer is not None
        if producer.domain == "" and producer.op_type not in ("Loop", "Scan"):  # of these, `loop_shapes` knows more
            value.shape = None
    proto, _ = skeleton(model)
    result = ir.from_proto(
        onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)
    )
    for value, inferred in zip(_computed(model), _computed(result), strict=True):
        if inferred.type is not None:
            value.type = inferred.type
        value.shape = _merged(inferred.shape, declared[value])
    _unify_symbols(model)
    _shape_operands(model)
    return model


def symbols(model: ir.Model) -> dict[str, bool]:
    """The symbolic dimensions of a graph's inputs by name, in order, and whether each is a batch.

    A batch is the first dimension of an input. A dimension without a name is called after its input and axis, as
    `x_2`.
    """
    found: dict[str, bool] = {}
    for value in model.graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim):
                name = _name(value, axis, dim)
                found[name] = found.get(name, False) or axis == 0
    return found


def symbols_of(model: ir.Model) -> dict[str, list[str]]:
    """By input of a graph, what its dimensions are called, as in `symbols`; empty for one that is fixed."""
    return {
        str(value.name): [
            _name(value, axis, dim) if isinstance(dim, ir.SymbolicDim) else ""
            for axis, dim in enumerate(value.shape or ())
        ]
        for value in model.graph.inputs
    }


def bind(model: ir.Model, sizes: Mapping[str, int]) -> ir.Model:
    """Copy a hub graph with symbolic dimensions of its inputs fixed.

    Args:
        model: A legal hub graph; it is not changed (weights are shared, not copied).
        sizes: By the names of `symbols`; dimensions that are not named stay symbolic.

    Returns:
        The copy, simplified again (shape arithmetic that was symbolic is constant now), with shapes inferred.

    Raises:
        ValueError: A size is below 1, or a name is no symbolic dimension of an input.
    """
    from haversack.convert.hub.passes import simplify

    known = symbols(model)
    for name, size in sizes.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "all its dimensions are fixed"
            raise ValueError(f"the model has no symbolic dimension {name!r}; {has}")
        if size < 1:
            raise ValueError(f"the dimension {name} is bound to {size}; it must be at least 1")
    bound = model.clone()
    if not sizes:
        return bound
    for value in bound.graph.inputs:
        if value.shape is not None:
            dims = enumerate(list(value.shape))
            value.shape = ir.Shape(
                [sizes.get(_name(value, n, d), d) if isinstance(d, ir.SymbolicDim) else d for n, d in dims]
            )
    for value in _computed(bound):
        if value.shape is not None:
            value.shape = ir.Shape(
                [sizes.get(d.value or "", d) if isinstance(d, ir.SymbolicDim) else d for d in value.shape]
            )
    infer(bound)
    return simplify(bound)


def bind_batch(model: ir.Model, size: int = 1, dims: Mapping[str, int] | None = None) -> ir.Model:
    """Copy a hub graph with its batch, and any other symbolic dimension that is named, fixed; see `bind`.

    Args:
        model: A legal hub graph; it is not changed.
        size: The size of every input's first dimension where that is symbolic or unknown.
        dims: Sizes of further symbolic dimensions, by name.

    Raises:
        ValueError: A size is below 1, or a name in `dims` is no symbolic dimension of an input.
    """
    if size < 1:
        raise ValueError(f"the batch is bound to {size}; it must be at least 1")
    return bind(model, {**{name: size for name, batch in symbols(model).items() if batch}, **(dims or {})})


def _name(value: ir.Value, axis: int, dim: ir.SymbolicDim) -> str:
    return dim.value or f"{value.name}_{axis}"


def is_static(value: ir.Value) -> bool:
    """Whether every dimension of `value` is known."""
    return value.shape is not None and value.shape.is_static()


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of `value` where every dimension is known, None otherwise."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(dim) for dim in value.shape)  # type: ignore[arg-type]


def _computed(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        for node in graph:
            yield from node.outputs


_UNARY = frozenset(
    """Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Cos Cosh Elu Erf Exp Floor HardSigmoid Identity LeakyRelu Log Neg
    Not Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh""".split()  # noqa: SIM905
)
_BINARY = frozenset({"Add", "Sub", "Mul", "Div"})


def _shape_operands(model: ir.Model) -> None:
    """Give the operands of elementwise operators the shape of a result that the file declares, where they have none.

    Of two operands this is sound where the other has one element and no more axes.
    """
    for graph in model.graphs():
        for node in reversed(list(graph)):
            if node.domain != "" or node.op_type not in _UNARY | _BINARY or not is_static(node.outputs[0]):
                continue
            unknown = [value for value in node.inputs if value is not None and not is_static(value)]
            others = [value for value in node.inputs if value is not None and is_static(value)]
            shape = node.outputs[0].shape
            assert shape is not None
            if len(unknown) != 1 or unknown[0].producer() is None:
                continue
            own = unknown[0].shape
            same_rank = own is not None and len(own) == len(shape)
            if all(static_shape(v) == () or (same_rank and static_shape(v) == (1,)) for v in others):
                unknown[0].shape = shape.copy()


def _unify_symbols(model: ir.Model) -> None:
    """Call the symbolic dimension of a Reshape's output what it is called at the input, where they must be equal.

    onnx's inference gives a Reshape's -1 a new symbol. If both shapes have one symbolic dimension and their static
    ones have the same product, the two are one. The new symbol is replaced wherever inference carried it.
    """
    same: dict[str, str] = {}
    for graph in model.graphs():
        for node in graph:
            if node.op_type != "Reshape" or node.domain != "" or node.inputs[0] is None:
                continue
            before, after = _one_symbol(node.inputs[0].shape), _one_symbol(node.outputs[0].shape)
            if before is not None and after is not None and before[1] == after[1]:
                same.setdefault(after[0], same.get(before[0], before[0]))
    same = {new: old for new, old in same.items() if new != old}
    if not same:
        return
    for value in _computed(model):
        if value.shape is not None and not value.shape.is_static():
            value.shape = ir.Shape(
                [same.get(d.value or "", d.value) if isinstance(d, ir.SymbolicDim) else d for d in value.shape]
            )


def _one_symbol(shape: ir.Shape | None) -> tuple[str, int] | None:
    """The name of a shape's only symbolic dimension, and the product of the others; None for other shapes."""
    if shape is None:
        return None
    symbols = [dim.value for dim in shape if isinstance(dim, ir.SymbolicDim)]
    product = math.prod(dim for dim in shape if isinstance(dim, int))
    return (symbols[0], product) if len(symbols) == 1 and symbols[0] is not None and product else None


def _merged(inferred: ir.Shape | None, declared: ir.Shape | None) -> ir.Shape | None:
    if inferred is None or declared is None or len(inferred) != len(declared):
        return declared if inferred is None else inferred
    return ir.Shape(
        [d if isinstance(i, ir.SymbolicDim) and not _unnamed(d) else i for i, d in zip(inferred, declared, strict=True)]
    )


GENERATED = "unk__"
"""How the names begin that onnx's inference makes up. Each run counts anew, so that one name may mean two sizes."""


def _unnamed(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and (dim.value is None or dim.value.startswith(GENERATED))


def _without_generated(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else ir.Shape([None if _unnamed(dim) else dim for dim in shape])
