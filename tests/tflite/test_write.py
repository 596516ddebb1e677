"""The FlatBuffer: its tables against LiteRT's own schema module, sharing, names, alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as official

from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor
from haversack.convert.targets.tflite.schema import ACTIVATIONS, OPERATORS, OPTIONS, SAME, TENSOR_TYPES, VALID
from haversack.convert.targets.tflite.write import serialize


def camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def test_enumerations_are_the_official_ones() -> None:
    for name, number in TENSOR_TYPES.items():
        assert getattr(official.TensorType, name.upper()) == number
    for name, (code, _) in OPERATORS.items():
        assert getattr(official.BuiltinOperator, name) == code
    for name, number in ACTIVATIONS.items():
        assert getattr(official.ActivationFunctionType, name) == number
    assert (official.Padding.SAME, official.Padding.VALID) == (SAME, VALID)


@pytest.mark.parametrize("table", OPTIONS)
def test_options_are_the_official_ones(table: str) -> None:
    """Each field, written with a value of its own, is read back by the official module under its name."""
    tag, fields = OPTIONS[table]
    assert getattr(official.BuiltinOptions, table) == tag
    values = {
        row.name: [3, 5] if row.kind == "vector" else (not row.default) if row.kind == "bool" else row.slot + 2
        for row in fields
    }
    code = next(code for code, (_, name) in OPERATORS.items() if name == table)
    x, y = Tensor((1, 1, 1, 1), "float32"), Tensor((1, 1, 1, 1), "float32")
    data, _ = serialize(Graph([("x", x)], [("y", y)], [Operator(code, [x, x, x, x], [y], values, "node")]))
    model = official.ModelT.InitFromObj(official.Model.GetRootAsModel(data, 0))
    options = model.subgraphs[0].operators[0].builtinOptions
    assert type(options).__name__ == f"{table}T"
    for name, value in values.items():
        read = getattr(options, camel(name)[0].lower() + camel(name)[1:])
        assert list(read) == value if isinstance(value, list) else read == value


def small() -> Graph:
    """Two additions of the same constant, in two tensors."""
    x, y, z = (Tensor((1, 4), "float32") for _ in range(3))
    one, other = (Tensor((4,), "float32", np.arange(4, dtype=np.float32)) for _ in range(2))
    operators = [Operator("ADD", [x, one], [y], {}, "a"), Operator("ADD", [y, other], [z], {}, "b")]
    return Graph([("input", x)], [("output", z)], operators)


def parsed(data: bytes) -> Any:
    return official.ModelT.InitFromObj(official.Model.GetRootAsModel(data, 0))


def test_equal_constants_are_one_tensor_and_one_buffer() -> None:
    model = parsed(serialize(small())[0])
    assert len(model.subgraphs[0].tensors) == 4
    assert len(model.buffers) == 2  # the empty one and the constant
    assert len(model.operatorCodes) == 1


def test_only_inputs_and_outputs_have_names() -> None:
    model = parsed(serialize(small())[0])
    assert [t.name for t in model.subgraphs[0].tensors] == [b"input", None, None, b"output"]
    [signature] = model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [m.name for m in (*signature.inputs, *signature.outputs)] == [b"input", b"output"]


def test_constants_are_aligned() -> None:
    random = np.random.default_rng(0)
    x, operators = Tensor((1, 7), "float32"), []
    last = x
    for _ in range(5):
        y = Tensor((1, 7), "float32")
        operators.append(
            Operator("ADD", [last, Tensor((7,), "float32", random.random(7).astype(np.float32))], [y], {}, "n")
        )
        last = y
    data, _ = serialize(Graph([("x", x)], [("y", last)], operators))
    for operator in operators:
        constant = operator.inputs[1]
        assert constant is not None
        assert constant.data is not None
        assert data.index(constant.data.tobytes()) % 16 == 0


def test_two_names_for_one_tensor(run: Any) -> None:
    graph = small()
    graph.outputs.append(("again", graph.outputs[0][1]))
    found = run(serialize(graph)[0], {"input": np.ones((1, 4), np.float32)})
    np.testing.assert_array_equal(found["output"], found["again"])


def test_an_option_that_the_operator_does_not_have_is_an_error() -> None:
    graph = small()
    graph.operators[0].options = {"axis": 1}
    with pytest.raises(ValueError, match="AddOptions has no field"):
        serialize(graph)
