"""The `onnx` target, judged by onnxruntime and by the files themselves."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.errors import UnsupportedError
from haversack.convert.targets import Options, open_target

TARGET = open_target("ort")


def model_of(nodes, inputs, outputs, arrays) -> ir.Model:
    made = [
        helper.make_node(op, ins, outs, name=f"{op}_{i}", **attrs) for i, (op, ins, outs, attrs) in enumerate(nodes)
    ]
    graph = helper.make_graph(
        made,
        "a graph with a long name",
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()],
        doc_string="documentation",
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


@pytest.fixture
def model() -> ir.Model:
    rng = np.random.default_rng(0)
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return model_of(
        [
            ("Conv", ["image", "first/weights", "first/bias"], ["first/output"], window),
            ("Relu", ["first/output"], ["first/active"], {}),
            ("Conv", ["first/active", "second/weights", "second/bias"], ["second/output"], window),
            ("Clip", ["second/output", "lowest", "highest"], ["second/active"], {}),
            ("Add", ["first/active", "second/active"], ["sum"], {}),
            ("Add", ["sum", "addend"], ["shifted"], {}),
            ("GlobalAveragePool", ["shifted"], ["mean"], {}),
            ("Flatten", ["mean"], ["flat"], {}),
            ("Gemm", ["flat", "dense/weights", "dense/bias"], ["logits"], {"transB": 1}),
            ("Softmax", ["logits"], ["scores"], {"axis": 1}),
        ],
        {"image": (1, 3, 8, 8)},
        {"scores": onnx.TensorProto.FLOAT},
        {
            "first/weights": rng.normal(0, 0.4, (48, 3, 3, 3)).astype(np.float32),
            "first/bias": rng.normal(0, 0.1, 48).astype(np.float32),
            "second/weights": rng.normal(0, 0.1, (48, 48, 3, 3)).astype(np.float32),
            "second/bias": rng.normal(0, 0.1, 48).astype(np.float32),
            "lowest": np.float32(0),
            "highest": np.float32(6),
            "addend": rng.normal(0, 1, (1, 48, 1, 1)).astype(np.float32),
            "dense/weights": rng.normal(0, 0.2, (5, 48)).astype(np.float32),
            "dense/bias": rng.normal(0, 0.1, 5).astype(np.float32),
        },
    )


@pytest.fixture
def feeds() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"image": rng.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(12)]


def run(content, feeds, *, optimised: bool = True, names=None) -> list[np.ndarray]:
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    content = str(content) if isinstance(content, Path) else content
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [session.run(names, each) for each in feeds]


def hub(model: ir.Model, feeds, names=None) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    if names:
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return run(proto.SerializeToString(), feeds, optimised=False, names=names)


def optimised_ops(path: Path, folder: Path) -> Counter[str]:
    """What onnxruntime runs after it has optimised the file."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "seen.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "seen.onnx").graph.node)


@pytest.mark.parametrize("recipe", [name for name in TARGET.recipes if name != "int16"])  # that is in test_mixed.py
def test_every_recipe_reproduces_the_compressed_graph(model, feeds, tmp_path, recipe) -> None:
    made = compress(model, Recipe(recipe), feeds).model
    before = ir.to_proto(made).SerializeToString()
    written = TARGET.write(made, recipe, tmp_path / "m.onnx", Options())
    assert ir.to_proto(made).SerializeToString() == before
    proto = onnx.load(written.path)
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in (*proto.graph.input, *proto.graph.output)] == ["image", "scores"]
    # int8: an LSB of the softmax is 1/256, and integer kernels round ties apart: two of them. int8-dynamic computes
    # convolutions in float where the hub rounds their inputs, so it is held to the float model at the same distance.
    expected = hub(model if recipe == "int8-dynamic" else made, feeds)
    tolerance = {"int8": 2 / 256, "int8-dynamic": 8 / 256}.get(recipe, 1e-5)
    four_bits = {"INT4", "UINT4"} & {value.dtype.name for value in made.graph.initializers.values()}
    assert any("no .ort" in note for note in written.notes) == bool(four_bits)
    for path in (written.path, *written.companions[: 0 if four_bits else 1]):
        for mine, theirs in zip(run(path, feeds), expected, strict=True):
            np.testing.assert_allclose(mine[0], theirs[0], atol=tolerance)


def test_int8_fuses_into_integer_kernels(model, feeds, tmp_path) -> None:
    made = compress(model, Recipe("int8"), feeds).model
    written = TARGET.write(made, "int8", tmp_path / "m.onnx", Options())
    ops = optimised_ops(written.path, tmp_path)
    assert ops["QLinearConv"] == 2
    assert ops["QLinearAdd"] == 2
    assert ops["QGemm"] == 1
    assert ops["QuantizeLinear"] == ops["DequantizeLinear"] == 1
    assert ops["Conv"] + ops["Add"] + ops["Relu"] + ops["Clip"] + ops["Mul"] == 0


def test_reencoding_is_lossless_bit_for_bit(model, feeds, tmp_path) -> None:
    made = compress(model, Recipe("int8"), feeds).model
    written = TARGET.write(made, "int8", tmp_path / "m.onnx", Options())
    for mine, theirs in zip(run(written.path, feeds, optimised=False), hub(made, feeds), strict=True):
        np.testing.assert_array_equal(mine[0], theirs[0])


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8", "int8-weights"])
def test_taps_hold_what_the_hub_holds(model, feeds, tmp_path, recipe) -> None:
    made = compress(model, Recipe(recipe), feeds).model
    written = TARGET.write(made, recipe, tmp_path / "m.onnx", Options())
    proto = onnx.load(written.path)
    taps = {tap.value: tap for layer in written.layers for tap in (*layer.inputs, *layer.outputs)}
    assert {"image", "scores"} <= set(taps)
    computed = [tap for tap in taps.values() if tap.value != "image"]
    proto.graph.output.extend(onnx.ValueInfoProto(name=tap.tensor) for tap in computed if tap.tensor != "scores")
    mine = run(proto.SerializeToString(), feeds[:2], optimised=False, names=[tap.tensor for tap in computed])
    theirs = hub(made, feeds[:2], [tap.value for tap in computed])
    for here, there in zip(mine, theirs, strict=True):
        for tap, a, b in zip(computed, here, there, strict=True):
            np.testing.assert_allclose(
                a.astype(np.float64), b.astype(np.float64) + tap.offset, atol=1e-5, err_msg=tap.value
            )
    names = {node.name for node in model.graph}
    weighted = {layer.name for layer in written.layers if layer.op in ("Conv", "Gemm")}
    assert weighted == {name for name in names if name.startswith(("Conv", "Gemm"))}
    if recipe == "int8":
        assert {tap.offset for tap in computed if tap.value.endswith("_quantized")} == {128}
        assert all(layer.inputs and layer.outputs for layer in written.layers)


@pytest.mark.parametrize("recipe", TARGET.recipes)
def test_the_same_input_gives_the_same_bytes(model, feeds, tmp_path, recipe) -> None:
    made = compress(model, Recipe(recipe), feeds).model
    contents = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        written = TARGET.write(made, recipe, tmp_path / name / "m.onnx", Options())
        contents.append([path.read_bytes() for path in (written.path, *written.companions)])
    assert contents[0] == contents[1] == contents[2]


def test_spelled_out_defaults_do_not_break_integer_pools(feeds, tmp_path) -> None:
    window = {"strides": [2, 2], "pads": [0, 0, 0, 0], "dilations": [1, 1], "ceil_mode": 0, "count_include_pad": 0}
    pooled = model_of(
        [
            ("Conv", ["image", "w"], ["c"], {"kernel_shape": [1, 1], "group": 1, "dilations": [1, 1]}),
            ("AveragePool", ["c"], ["scores"], {"kernel_shape": [2, 2], **window}),
        ],
        {"image": (1, 3, 8, 8)},
        {"scores": onnx.TensorProto.FLOAT},
        {"w": np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)},
    )
    made = compress(pooled, Recipe("int8"), feeds).model
    written = TARGET.write(made, "int8", tmp_path / "m.onnx", Options())
    assert optimised_ops(written.path, tmp_path)["QLinearAveragePool"] == 1
    kept = [
        {a.name for a in n.attribute}
        for n in onnx.load(written.path).graph.node
        if n.op_type in ("Conv", "AveragePool")
    ]
    assert kept == [set(), {"kernel_shape", "strides"}]
    last = next(node for node in made.graph if node.outputs[0].name == "scores")
    step = float(last.inputs[1].const_value.numpy())
    for mine, theirs in zip(run(written.path, feeds), hub(made, feeds), strict=True):
        np.testing.assert_allclose(mine[0], theirs[0], atol=2.001 * step)  # two LSB, a mean's limit


def test_names_and_documentation_are_gone(model, tmp_path) -> None:
    written = TARGET.write(model, "fp32", tmp_path / "m.onnx", Options())
    content = written.path.read_bytes()
    for word in (b"first/", b"documentation", b"a graph with", b"Conv_"):
        assert word not in content
    plain = len(ir.to_proto(model).SerializeToString())
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    assert len(content) - weights < 0.6 * (plain - weights)


def test_integer_edges_hold_the_hubs_integers(model, feeds, tmp_path) -> None:
    made = compress(model, Recipe("int8"), feeds).model
    written = TARGET.write(made, "int8", tmp_path / "m.onnx", Options(io_dtype="int8"))
    proto = onnx.load(written.path)
    assert {v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)} == {onnx.TensorProto.INT8}
    integers = hub(made, feeds, ["image_quantized", "scores_quantized"])
    for (source, result), (mine,) in zip(
        integers, run(written.path, [{"image": each[0]} for each in integers]), strict=True
    ):
        assert source.dtype == mine.dtype == np.int8
        np.testing.assert_allclose(mine.astype(int), result.astype(int), atol=2)  # LSB, as above
    edges = {tap.value: tap for layer in written.layers for tap in (*layer.inputs, *layer.outputs) if tap.offset == 0}
    assert (edges["image_quantized"].tensor, edges["scores_quantized"].tensor) == ("image", "scores")


def test_weights_only_runs_at_float_speed_because_it_folds(model, feeds, tmp_path) -> None:
    for recipe in ("int8-weights", "fp16"):
        made = compress(model, Recipe(recipe), feeds).model
        written = TARGET.write(made, recipe, tmp_path / f"{recipe}.onnx", Options(ort_format=False))
        assert not written.companions
        ops = optimised_ops(written.path, tmp_path)
        assert not {"DequantizeLinear", "Cast", "Mul"} & set(ops)
        assert written.path.stat().st_size < 0.55 * len(ir.to_proto(model).SerializeToString())


def test_dynamic_keeps_dense_layers_in_integers_only(model, feeds, tmp_path) -> None:
    made = compress(model, Recipe("int8-dynamic"), feeds).model
    written = TARGET.write(made, "int8-dynamic", tmp_path / "m.onnx", Options())
    ops = optimised_ops(written.path, tmp_path)
    assert ops["DynamicQuantizeMatMul"] == 1
    assert ops["ConvInteger"] == 0
    assert any("2 convolutions" in note for note in written.notes)


def test_packed_weights_stay_packed_in_the_ort_file(model, feeds, tmp_path) -> None:
    sizes = {}
    for recipe in ("fp32", "fp16", "int8-weights"):
        made = compress(model, Recipe(recipe), feeds).model
        sizes[recipe] = TARGET.write(made, recipe, tmp_path / f"{recipe}.onnx", Options()).companions[0].stat().st_size
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    assert sizes["fp32"] - sizes["fp16"] > 0.4 * weights
    assert sizes["fp32"] - sizes["int8-weights"] > 0.6 * weights


def test_the_config_is_what_onnxruntime_s_own_parser_reads(model, feeds, tmp_path) -> None:
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    made = compress(model, Recipe("int8"), feeds).model
    written = TARGET.write(made, "int8", tmp_path / "m.onnx", Options())
    flat, config = written.companions
    assert config.name == "m.required_operators_and_types.config"
    assert "#" not in config.read_text()
    needed, types = parse_config(str(config), enable_type_reduction=True)
    # The file itself, read back by onnxruntime: every node of it has its operator in the config, at its own version.
    seen = ort_nodes(flat)
    assert {(domain, op) for domain, op, _ in seen} == {
        (domain, op) for domain, opsets in needed.items() for ops in opsets.values() for op in ops
    }
    assert all(op in needed[domain][version] for domain, op, version in seen)
    assert {"QLinearAdd", "QGemm", "QLinearConv"} <= needed["com.microsoft"][1]
    # uint8 kernels stay, int8 ones go; what the config does not list stays.
    assert types.is_typed_registration_needed("ai.onnx", "QuantizeLinear", "uint8_t")
    assert not types.is_typed_registration_needed("ai.onnx", "QuantizeLinear", "int16_t")
    assert types.is_typed_registration_needed("ai.onnx", "Relu", "float")


def test_onnxruntimes_tools_leave_the_root_logger_alone(tmp_path) -> None:
    program = f"""
import logging
from pathlib import Path
from haversack.convert.targets.ort.ort_format import operator_config, write_ort
import onnx
model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["":21]> g (float[2] x) => (float[2] y) {{y = Abs(x)}}')
write_ort(model.SerializeToString(), Path({str(tmp_path / "m.ort")!r}), fold=True)
assert operator_config([Path({str(tmp_path / "m.ort")!r})]).startswith("ai.onnx;13;Abs")
assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def ort_nodes(path: Path) -> set[tuple[str, str, int]]:
    from onnxruntime.tools.ort_format_model import OrtFormatModelProcessor

    found: dict[str, dict[int, set[str]]] = {}
    OrtFormatModelProcessor(str(path), found, None).process()
    return {(domain, op, version) for domain, opsets in found.items() for version, ops in opsets.items() for op in ops}


def test_the_ort_file_is_saved_for_any_device_s_cpu(model, feeds, tmp_path) -> None:
    """Integer convolutions are channels-last already, so that a build that cannot optimise runs them as fast."""
    made = compress(model, Recipe("int8"), feeds).model
    written = TARGET.write(made, "int8", tmp_path / "m.onnx", Options())
    nodes = {(domain, op) for domain, op, _ in ort_nodes(written.companions[0])}
    assert ("com.microsoft", "QLinearConv") in nodes
    assert ("ai.onnx", "QLinearConv") not in nodes
    assert {domain for domain, _ in nodes} <= {"ai.onnx", "com.microsoft"}
    plain = TARGET.write(model, "fp32", tmp_path / "p.onnx", Options())
    assert "com.microsoft.nchwc" not in {domain for domain, _, _ in ort_nodes(plain.companions[0])}
    assert any("prefer the .onnx" in note for note in plain.notes)


def test_every_node_without_a_kernel_is_named(tmp_path) -> None:
    values = [ir.Value(name=n, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 4])) for n in "xrfiy"]
    ops = [("", "Relu"), ("example.org", "Frobnicate"), ("", "Neg"), ("example.org", "Frobnicate")]
    nodes = [
        ir.Node(domain, op, [values[i]], outputs=[values[i + 1]], name=f"{op}_{i}")
        for i, (domain, op) in enumerate(ops)
    ]
    graph = ir.Graph(values[:1], values[-1:], nodes=nodes, opset_imports={"": 21, "example.org": 1}, name="broken")
    broken = ir.Model(graph, ir_version=10)
    found = TARGET.preflight(broken, "fp32", Options())
    assert [(blocker.node, blocker.op) for blocker in found] == [
        ("Frobnicate_1", "Frobnicate"),
        ("Frobnicate_3", "Frobnicate"),
    ]
    with pytest.raises(UnsupportedError, match="Frobnicate_1"):
        TARGET.write(broken, "fp32", tmp_path / "m.onnx", Options())
    assert not list(tmp_path.iterdir())


def test_a_sound_model_has_no_blockers(model) -> None:
    assert TARGET.preflight(model, "fp32", Options()) == []


def test_control_flow_keeps_its_names_straight(tmp_path) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21]>
        branches (float[4] x, bool which) => (float[4] y) <float[1] one = {1}> {
            doubled_value = Add(x, x)
            y = If (which) <
                then_branch = yes () => (float[4] z) { inner_value = Add(doubled_value, one) z = Mul(inner_value, x) },
                else_branch = no () => (float[4] z) { inner_value = Sub(doubled_value, one) z = Mul(inner_value, x) }
            >
        }""")
    for i, node in enumerate(proto.graph.node):
        node.name = f"n{i}"
    written = TARGET.write(ir.from_proto(proto), "fp32", tmp_path / "m.onnx", Options())
    x = np.arange(4, dtype=np.float32)
    for which, expected in ((True, (2 * x + 1) * x), (False, (2 * x - 1) * x)):
        got = run(written.path, [{"x": x, "which": np.array(which)}])[0][0]
        np.testing.assert_array_equal(got, expected)
    assert b"inner_value" not in written.path.read_bytes()


def test_int8_says_what_cpus_whose_products_saturate_compute(tmp_path) -> None:
    """Full-range weights saturate somewhere or nowhere, and either is said; the reduced range rules it out."""
    from haversack.convert import convert

    digits = Path(__file__).resolve().parents[2] / "demo" / "haversack" / "demo" / "digits"
    given = {"to": "onnx", "compress": "int8", "calibration": digits / "calibration.npz"}
    full = convert(digits / "digits.onnx", output=tmp_path / "full.onnx", **given)
    assert any("x86 CPUs without VNNI" in note for note in full.variant.notes)
    safe = convert(digits / "digits.onnx", output=tmp_path / "safe.onnx", methods=("reduced-range",), **given)
    assert any(note.startswith("portable int8: none of") for note in safe.variant.notes)
