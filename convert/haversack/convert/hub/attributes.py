"""A node's attributes as plain Python values."""

from __future__ import annotations

import onnx_ir as ir

_SCALARS = {ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING}
_SEQUENCES = {ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS}


def python(node: ir.Node) -> dict[str, object]:
    """Give the attributes of `node` as Python values.

    Args:
        node: Any node of a hub graph.

    Returns:
        By ONNX name: int, float or str; tuples of these; a numpy array for a tensor (a tuple of arrays for several);
        an `ir.Graph` for a subgraph (a tuple for several).

    Raises:
        ValueError: An attribute refers to a function parameter, or has a kind that the hub does not hold
            (sparse tensors, type protos).
    """
    values: dict[str, object] = {}
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            raise ValueError(f"{node.name}: attribute {name!r} refers to a parameter of a function")
        if attribute.type in _SCALARS or attribute.type is ir.AttributeType.GRAPH:
            values[name] = attribute.value
        elif attribute.type in _SEQUENCES or attribute.type is ir.AttributeType.GRAPHS:
            values[name] = tuple(attribute.value)
        elif attribute.type is ir.AttributeType.TENSOR:
            values[name] = attribute.as_tensor().numpy()
        elif attribute.type is ir.AttributeType.TENSORS:
            values[name] = tuple(tensor.numpy() for tensor in attribute.as_tensors())
        else:
            raise ValueError(f"{node.name}: attribute {name!r} is of the kind {attribute.type.name}")
    return values
