"""Files that take other sizes at run time, executed by LiteRT at sizes that the converter never looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from haversack.convert import convert, inspect, pack
from haversack.convert.errors import UnsupportedError, UsageError, VerificationError
from haversack.convert.hub.shapes import bind_batch
from haversack.convert.report import Variant
from haversack.convert.sources import read
from haversack.convert.targets import Options
from haversack.convert.targets.tflite import TARGET, symbolic
from haversack.runtimes import load
from haversack.runtimes.engines.litert import open_artifact

FLOAT = 1e-5
"""max abs difference / max abs of an output, as in this target's other tests: sums of a few hundred float32 terms."""

random = np.random.default_rng(7)


def weight(*shape: int) -> np.ndarray:
    return (random.standard_normal(shape) * 0.3).astype(np.float32)


def write(folder: Path, inputs: str, body: str, outputs: str, **weights: Any) -> Path:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g ({inputs}) => ({outputs}) {{ {body} }}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def made(model: Path, **options: Any) -> Variant:
    return convert(model, to="tflite", output=model.with_suffix(".tflite"), force=True, **options).variant


def agrees(model: Path, sizes: Sequence[Mapping[str, int]], xnnpack: bool = True) -> None:
    """LiteRT at each size, in one interpreter, against onnxruntime."""
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, quiet, providers=["CPUExecutionProvider"])
    engine = open_artifact(model.with_suffix(".tflite"), xnnpack=xnnpack)
    for at in sizes:
        feeds = {}
        for value in session.get_inputs():
            shape = [at.get(dim, dim) for dim in value.shape]
            integers = value.type == "tensor(int64)"
            feeds[value.name] = random.integers(0, 9, shape) if integers else random.standard_normal(shape, np.float32)
        wanted = dict(zip((value.name for value in session.get_outputs()), session.run(None, feeds), strict=True))
        found = engine.run(feeds)
        for name, value in wanted.items():
            assert found[name].shape == value.shape, at
            assert np.abs(found[name] - value).max() <= FLOAT * np.abs(value).max(), at


def cnn(folder: Path) -> Path:
    body = """a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w) r = Relu(a)
        p = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r) s = Shape(p) n = Gather(s, first)
        t = Concat<axis=0>(n, rest) f = Reshape(p, t) m = Gemm<transB=1>(f, v, c) y = Softmax(m)"""
    weights = {"w": weight(4, 3, 3, 3), "v": weight(10, 64), "c": weight(10)}
    return write(
        folder, "float[N,3,16,16] x", body, "float[N,10] y", first=np.array([0]), rest=np.array([-1]), **weights
    )


BATCHES = [{"N": 1}, {"N": 3}, {"N": 8}, {"N": 1}]


@pytest.mark.parametrize("xnnpack", [True, False])
def test_a_symbolic_batch(tmp_path: Path, xnnpack: bool) -> None:
    variant = made(cnn(tmp_path))
    assert "Resizable at run time: N." in variant.notes
    assert variant.verification.inputs.endswith("and resized to N=3")
    agrees(tmp_path / "model.onnx", BATCHES, xnnpack)


def test_at_a_batch_of_one_it_is_the_static_file_but_for_the_signature(tmp_path: Path) -> None:
    """The same operators, as many of them in the delegate, so the same speed; measured, the medians are within 1 %."""
    model = cnn(tmp_path)
    engines = []
    for dims in ({}, {"N": 1}):
        variant = made(model, dims=dims)
        engines.append(open_artifact(Path(variant.path).read_bytes()))
    operators = [[op["op_name"] for op in engine._interpreter._get_ops_details()] for engine in engines]
    assert operators[0] == operators[1]
    assert "DELEGATE" in operators[0]
    sample = {"x": random.standard_normal((1, 3, 16, 16), np.float32)}
    np.testing.assert_array_equal(*(engine.run(sample)["y"] for engine in engines))
    assert [engine.inputs[0].shape for engine in engines] == [("x_0", 3, 16, 16), (1, 3, 16, 16)]


def test_memory_is_allocated_once_a_change_of_size(tmp_path: Path) -> None:
    model = cnn(tmp_path)
    made(model)
    engine = open_artifact(model.with_suffix(".tflite"))
    calls: list[int] = []
    allocate = engine._interpreter.allocate_tensors
    engine._interpreter.allocate_tensors = lambda: (calls.append(1), allocate())
    for size, allocated in ((1, 0), (3, 1), (3, 1), (3, 1), (1, 2), (1, 2)):
        engine.run({"x": np.zeros((size, 3, 16, 16), np.float32)})
        assert len(calls) == allocated


def test_fixed_dimensions_give_the_bytes_that_a_static_graph_gives(tmp_path: Path) -> None:
    model = cnn(tmp_path)
    made(model, dims={"N": 1})
    TARGET.write(bind_batch(read(model).model), "fp32", tmp_path / "static.tflite", Options())
    assert (tmp_path / "model.tflite").read_bytes() == (tmp_path / "static.tflite").read_bytes()
    proto = onnx.load(model)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, model)
    made(model)
    assert (tmp_path / "model.tflite").read_bytes() == (tmp_path / "static.tflite").read_bytes()


@pytest.mark.parametrize("recipe", ["fp16", "int8", "int8-weights", "int8-dynamic"])
def test_every_recipe(tmp_path: Path, recipe: str) -> None:
    model = cnn(tmp_path)
    data = random.standard_normal((12, 3, 16, 16), np.float32)
    assert "Resizable at run time: N." in made(model, compress=recipe, calibration={"x": data}).notes
    engine = open_artifact(model.with_suffix(".tflite"))
    alone = np.concatenate([engine.run({"x": row[None]})["y"] for row in data])
    # One kernel computes both, row by row: only the order of float32 sums may differ, and an int8 softmax's last step.
    assert np.abs(engine.run({"x": data})["y"] - alone).max() <= (1 / 256 if recipe.startswith("int8") else FLOAT)


ATTENTION = """q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) s = Shape(x) n = Gather<axis=0>(s, zero)
    l = Gather<axis=0>(s, one) split = Concat<axis=0>(n, l, heads) q4 = Reshape(q, split) k4 = Reshape(k, split)
    v4 = Reshape(v, split) qt = Transpose<perm=[0,2,1,3]>(q4) kt = Transpose<perm=[0,2,3,1]>(k4)
    vt = Transpose<perm=[0,2,1,3]>(v4) qk = MatMul(qt, kt) scaled = Div(qk, root) ll = Concat<axis=0>(l, l)
    zeros = Concat<axis=0>(zero, zero) m = Slice(mask, zeros, ll, both) masked = Add(scaled, m)
    p = Softmax<axis=-1>(masked) o = MatMul(p, vt) ot = Transpose<perm=[0,2,1,3]>(o)
    merged = Concat<axis=0>(n, l, width) o3 = Reshape(ot, merged) places = Slice(table, zero, l, zero)
    sum = Add(o3, places) y = LayerNormalization<axis=-1>(sum, gamma, beta)"""


def transformer(folder: Path) -> Path:
    """Attention under a causal mask and a position table, both sliced to the sequence."""
    weights = {"wq": weight(16, 16), "wk": weight(16, 16), "wv": weight(16, 16), "gamma": weight(16)}
    return write(
        folder, "float[N,S,16] x", ATTENTION, "float[N,S,16] y", **weights, beta=weight(16), table=weight(96, 16),
        mask=np.triu(np.full((96, 96), -1e4, np.float32), 1), root=np.float32(2), zero=np.array([0]),
        one=np.array([1]), both=np.array([0, 1]), heads=np.array([4, 4]), width=np.array([16]),
    )  # fmt: skip


@pytest.mark.parametrize("xnnpack", [True, False])
def test_a_symbolic_sequence(tmp_path: Path, xnnpack: bool) -> None:
    assert "Resizable at run time: N, S." in made(transformer(tmp_path)).notes
    agrees(tmp_path / "model.onnx", [{"N": 2, "S": 5}, {"N": 1, "S": 90}, {"N": 3, "S": 1}, {"N": 2, "S": 5}], xnnpack)


def test_recurrent_layers(tmp_path: Path) -> None:
    body = """t = Transpose<perm=[1,0,2]>(x) s = Shape(x) n = Gather(s, zero) shape = Concat<axis=0>(one, n, hidden)
        h = ConstantOfShape(shape) a, b, c = LSTM<hidden_size=6>(t, w, r, , , h, h) y = Squeeze(b, zero)"""
    given = {"zero": np.array([0]), "one": np.array([1]), "hidden": np.array([6])}
    model = write(tmp_path, "float[N,S,5] x", body, "float[N,6] y", w=weight(1, 24, 5), r=weight(1, 24, 6), **given)
    assert "Resizable at run time: N, S." in made(model).notes
    agrees(model, [{"N": 1, "S": 7}, {"N": 4, "S": 3}, {"N": 2, "S": 50}])


@pytest.mark.parametrize("pads", ['auto_pad="SAME_UPPER"', "pads=[1,1,1,1]"])
def test_symbolic_height_and_width(tmp_path: Path, pads: str) -> None:
    """Odd and even sizes: TFLite's SAME pads them differently where windows skip elements, ONNX's pads do not."""
    body = f"""a = Conv<{pads}, strides=[2,2]>(x, w) r = Relu(a) g = GlobalAveragePool(r) z = Mul(r, g)
        u = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(z, , scales)
        y = Conv<pads=[1,1,1,1]>(u, v)"""
    scales = np.array([1, 1, 2, 2], np.float32)
    model = write(
        tmp_path, "float[N,3,H,W] x", body, "float y", w=weight(4, 3, 3, 3), v=weight(5, 4, 3, 3), scales=scales
    )
    assert "Resizable at run time: N, H, W." in made(model).notes
    agrees(model, [{"N": 1, "H": 17, "W": 33}, {"N": 2, "H": 20, "W": 9}, {"N": 1, "H": 64, "W": 64}])


def unet(folder: Path, inputs: str) -> Path:
    body = """a = Conv<pads=[1,1,1,1]>(x, w) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
        c = Conv<pads=[1,1,1,1]>(p, v) u = ConvTranspose<strides=[2,2]>(c, t) y = Concat<axis=1>(u, a)"""
    return write(folder, inputs, body, "float y", w=weight(4, 3, 3, 3), v=weight(5, 4, 3, 3), t=weight(5, 4, 2, 2))


def test_sizes_that_the_model_itself_takes_are_looked_at(tmp_path: Path) -> None:
    """Only even sizes come out of the halving and doubling as they went in."""
    model = unet(tmp_path, "float[1,3,H,W] x")
    variant = made(model)
    assert "Resizable at run time: H, W." in variant.notes
    assert any(note.startswith("u (TRANSPOSE_CONV): ") and "XNNPACK" in note for note in variant.notes)
    agrees(model, [{"H": 16, "W": 34}, {"H": 50, "W": 22}])


def test_a_batch_that_would_cost_speed_is_fixed_and_said(tmp_path: Path) -> None:
    model = unet(tmp_path, "float[N,3,16,16] x")
    assert any("batch (N) is fixed at 1: u (TRANSPOSE_CONV): " in note for note in made(model).notes)
    assert open_artifact(model.with_suffix(".tflite")).inputs[0].shape == (1, 3, 16, 16)
    agrees(model, [{"N": 1}])


def test_a_batch_that_cannot_stay_free_is_fixed_and_said(tmp_path: Path) -> None:
    body = "s = Shape(x) f = Cast<to=1>(s) r = Sqrt(f) q = Gather(r, zero) y = Div(x, q)"
    model = write(tmp_path, "float[N,4] x", body, "float[N,4] y", zero=np.array([0]))
    expected = "The batch (N) is fixed at 1: y (DIV): a constant that it reads depends on the size."
    assert expected in made(model).notes or any("fixed at 1" in note for note in made(model).notes)
    agrees(model, [{"N": 1}])


def test_two_batches(tmp_path: Path) -> None:
    model = write(tmp_path, "float[A,4] x, float[B,4] y", "t = Transpose<perm=[1,0]>(y) z = MatMul(x, t)", "float z")
    assert "Resizable at run time: A, B." in made(model).notes
    agrees(model, [{"A": 3, "B": 5}, {"A": 1, "B": 1}])
    model = write(tmp_path, "float[A,4] x, float[B,4] y", "z = Add(x, y)", "float z")
    assert "Resizable at run time: A, B, with A and B alike." in made(model).notes
    agrees(model, [{"A": 3, "B": 3}])


def test_what_cannot_be_resized_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Windows at the border average fewer elements: how many, a constant says at one size."""
    body = "a = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x) y = Relu(a)"
    model = write(tmp_path, "float[N,3,H,W] x", body, "float y")
    with pytest.raises(UnsupportedError, match=r"a \(.*fix the size with --dim H=SIZE --dim W=SIZE"):
        made(model)
    assert not model.with_suffix(".tflite").exists()
    [asked] = inspect(model, to=["tflite"]).preflights
    assert asked.blockers[0].node == "a"
    assert inspect(model, to=["tflite"], dims={"H": 9, "W": 8}).preflights[0].blockers == ()
    made(model, dims={"H": 9, "W": 8})
    agrees(model, [{"N": 4, "H": 9, "W": 8}])


def test_other_targets_ask_for_sizes(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"S \(dimension\): its size is not fixed; fix it with --dim S=SIZE"):
        convert(transformer(tmp_path), to="coreml", output=tmp_path / "m.mlpackage")


def test_a_name_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no symbolic dimension 'T'; it has N, S"):
        made(transformer(tmp_path), dims={"T": 4})


def test_the_data_says_which_size_is_usual(tmp_path: Path) -> None:
    model = transformer(tmp_path)
    variant = made(model, inputs={"x": random.standard_normal((6, 21, 16), np.float32)})
    assert variant.verification.samples == 6
    from ai_edge_litert.interpreter import Interpreter

    [detail] = Interpreter(str(model.with_suffix(".tflite"))).get_input_details()
    assert (detail["shape"].tolist(), detail["shape_signature"].tolist()) == ([1, 21, 16], [-1, -1, 16])


def test_a_size_that_does_not_follow_is_caught_by_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right at the default size is not enough."""

    def entry(_: Any, wanted: Sequence[int]) -> Any:
        return symbolic._const(np.array(wanted[:1], np.int32))

    monkeypatch.setattr(symbolic._Rewriter, "_entry", entry)
    with pytest.raises(VerificationError, match="resized to N=3, S=51"):
        made(transformer(tmp_path))


def test_a_bundle_proves_itself_at_two_sizes(tmp_path: Path) -> None:
    pack(cnn(tmp_path), to=["tflite"], recipes=["fp32"], output=tmp_path / "m.haversack")
    with load(tmp_path / "m.haversack") as model:
        assert model.inputs[0].shape == ("x_0", 3, 16, 16)
        assert {len(inputs["x"]) for inputs, _ in model._golden} == {1, 3}
        assert model.check().ok
        assert model({"x": np.zeros((5, 3, 16, 16), np.float32)})["y"].shape == (5, 10)


STEPS = {
    "relu": "{o} = Relu({i})",
    "swap": "{o} = Transpose<perm=[1,0,2]>({i})",
    "merge": "{o}_s = Shape({i}) {o}_t = Concat<axis=0>(minus, last) {o}_f = Reshape({i}, {o}_t) "
    "{o} = Reshape({o}_f, {o}_s)",
    "mean": "{o}_m = ReduceMean<keepdims=1>({i}, one) {o} = Add({i}, {o}_m)",
    "softmax": "{o} = Softmax<axis=1>({i})",
    "dense": "{o} = MatMul({i}, w)",
    "twice": "{o}_c = Concat<axis=1>({i}, {i}) {o} = Slice({o}_c, one, large, one)",
    "expand": "{o}_s = Shape({i}) {o}_e = Expand(row, {o}_s) {o} = Add({i}, {o}_e)",
    "gram": "{o}_t = Transpose<perm=[0,2,1]>({i}) {o}_g = MatMul({i}, {o}_t) {o}_p = Softmax({o}_g) "
    "{o} = MatMul({o}_p, {i})",
    "pairs": "{o}_s = Shape({i}) {o}_h = Gather<axis=0>({o}_s, first2) {o}_t = Concat<axis=0>({o}_h, halves) "
    "{o}_r = Reshape({i}, {o}_t) {o}_x = Transpose<perm=[0,2,1,3]>({o}_r) {o}_b = Tanh({o}_x) "
    "{o}_y = Transpose<perm=[0,2,1,3]>({o}_b) {o} = Reshape({o}_y, {o}_s)",
}


@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4))
def test_random_graphs(tmp_path: Path, chain: list[str]) -> None:
    body = " ".join(STEPS[step].format(i=f"v{n}", o=f"v{n + 1}") for n, step in enumerate(chain))
    model = write(
        tmp_path, "float[N,S,4] v0", body, f"float v{len(chain)}", w=weight(4, 4), row=weight(1, 4),
        minus=np.array([-1]), last=np.array([4]), one=np.array([1]), large=np.array([2**31 - 1]),
        first2=np.array([0, 1]), halves=np.array([2, 2]),
    )  # fmt: skip
    assert "Resizable at run time: N, S." in made(model).notes
    agrees(model, [{"N": 2, "S": 5}, {"N": 1, "S": 12}, {"N": 6, "S": 3}])
