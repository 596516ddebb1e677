"""What an app's or a page's onnxruntime does not do, said before anything is written."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from haversack.convert.errors import UnsupportedError
from haversack.convert.targets import Options, open_target
from haversack.convert.targets.ort.preflight import blockers
from haversack.convert.targets.ort.runtimes import Limits, beyond

FLOAT = ir.DataType.FLOAT


def model_of(op: str, dtypes: list[ir.DataType], result: ir.DataType, *, opset: int = 21, domain: str = "") -> ir.Model:
    inputs = [ir.Value(name=f"x{n}", type=ir.TensorType(d), shape=ir.Shape([2])) for n, d in enumerate(dtypes)]
    node = ir.Node(domain, op, inputs, num_outputs=1, name=f"{op}_0")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(result)
    node.outputs[0].shape = ir.Shape([2])
    imports = {"": opset} | ({domain: 1} if domain else {})
    return ir.Model(ir.Graph(inputs, node.outputs, nodes=[node], opset_imports=imports, name="g"), ir_version=10)


def test_a_plain_model_passes() -> None:
    assert blockers(model_of("Abs", [FLOAT], FLOAT), "onnxruntime-mobile") == []


def test_all_reasons_come_at_once(tmp_path) -> None:
    model = model_of("Frobnicate", [ir.DataType.STRING], ir.DataType.BFLOAT16, opset=27, domain="example.org")
    found = blockers(model, "onnxruntime-mobile")
    assert [(each.node, each.op) for each in found[:3]] == [("ai.onnx", "opset"), ("x0", "input"), ("y", "output")]
    assert ("Frobnicate_0", "Frobnicate") in [(each.node, each.op) for each in found]
    assert "string cannot be an input" in found[1].reason
    with pytest.raises(UnsupportedError):
        open_target("onnx").write(model, "fp32", tmp_path / "m.onnx", Options())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("domain", "newest"), [("", 21), ("ai.onnx.ml", 4)])
def test_the_oldest_package_that_is_promised_bounds_the_opset(domain, newest) -> None:
    model = model_of("Abs", [FLOAT], FLOAT)
    for version in (newest, newest + 1):
        model.opset_imports[domain] = version
        found = [each for each in blockers(model) if each.op == "opset"]
        assert bool(found) == (version > newest)


def test_a_sequence_cannot_leave() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x, x) }'
    )
    (found,) = blockers(ir.from_proto(proto))
    assert (found.node, found.op) == ("y", "output")
    assert "tensors only" in found.reason


MISSING = {("Where", 16): frozenset({("bool", "int8", "int8")})}
WEB = Limits("web 1", {"": 26}, {"bool", "float", "int8", "int64"}, MISSING, "it is wrong there")


@pytest.mark.parametrize(("dtype", "refused"), [(ir.DataType.INT8, True), (FLOAT, False)])
def test_a_missing_kernel_is_known_by_the_types_of_its_inputs(dtype, refused) -> None:
    model = model_of("Where", [ir.DataType.BOOL, dtype, dtype], dtype)
    found = beyond(model, WEB)
    assert [each.node for each in found] == (["Where_0"] if refused else [])
    if refused:
        assert "bool, int8, int8" in found[0].reason


def test_what_is_wrong_is_refused_though_it_loads() -> None:
    shape = ir.Node("", "Shape", [ir.Value(name="x", type=ir.TensorType(FLOAT), shape=ir.Shape([2, 3]))], name="s")
    size = ir.Node("", "Size", [shape.outputs[0]], name="n")
    size.outputs[0].type, size.outputs[0].name = ir.TensorType(ir.DataType.INT64), "y"
    graph = ir.Graph([shape.inputs[0]], size.outputs, nodes=[shape, size], opset_imports={"": 21}, name="g")
    assert [(each.node, each.op) for each in beyond(ir.Model(graph, ir_version=10), WEB)] == [("n", "Size")]


def test_onnxruntime_web_is_bounded_by_what_was_measured_in_chromium() -> None:
    unsupported = pytest.importorskip(
        "haversack.runtimes.engines.browser.unsupported", reason="the browser engine is not in this checkout"
    )
    model = model_of("Abs", [FLOAT], FLOAT, opset=unsupported.MAX_OPSET)
    assert blockers(model, "onnxruntime-web") == []
    model.opset_imports[""] = unsupported.MAX_OPSET + 1
    assert "opset" in [each.op for each in blockers(model, "onnxruntime-web")]
    (op, since), types = next(iter(unsupported.MISSING.items()))
    dtypes = [ir.DataType[name.upper()] for name in next(iter(types))]
    found = blockers(model_of(op, dtypes, dtypes[-1], opset=max(since, 21)), "onnxruntime-web")
    assert op in [each.op for each in found]
