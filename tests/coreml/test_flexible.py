"""One package for several sizes, converted, declared and verified; compared with onnxruntime at each size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from haversack.convert.errors import UnsupportedError, UsageError, VerificationError
from haversack.convert.flexible import Flexible, parsed, points
from haversack.convert.names import dims_of
from haversack.convert.pipeline import convert
from haversack.runtimes.engines import open_engine
from haversack.runtimes.engines.coreml import read_package
from haversack.runtimes.errors import FeedError

RNG = np.random.default_rng(4)
LIMITS = {"fp32": 1e-4, "fp16": 1e-2}
"""The contracts: max abs difference / max abs."""


def _weights(*shape: int) -> np.ndarray:
    return RNG.normal(scale=0.3, size=shape).astype(np.float32)


def _model(text: str, **constants: Any) -> onnx.ModelProto:
    model = parser.parse_model('<ir_version: 10, opset_import: ["": 21]> ' + text)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    return model


CNN = _model(
    """g (float[N,3,H,V] x) => (float[N,M] y) {
     c = Conv<pads=[1,1,1,1]>(x, w, b)
     p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c)
     q = Conv<strides=[2,2], auto_pad="SAME_UPPER">(p, w2)
     m = GlobalAveragePool(q)
     f = Flatten<axis=1>(m)
     y = Gemm(f, w3) }""",
    w=_weights(4, 3, 3, 3),
    b=_weights(4),
    w2=_weights(4, 4, 3, 3),
    w3=_weights(4, 5),
)
ATTENTION = _model(
    """g (int64[B,S] ids, float[B,S,16] more) => (float[B,S,16] y) {
     e = Gather(table, ids)
     shape = Shape(ids)
     length = Gather<axis=0>(shape, one)
     end = Unsqueeze(length, zero)
     places = Slice(positions, zero, end, zero)
     added = Add(e, places)
     h = Add(added, more)
     q = MatMul(h, wq)
     k = MatMul(h, wk)
     qs = Reshape(q, heads)
     ks = Reshape(k, heads)
     hs = Reshape(h, heads)
     qt = Transpose<perm=[0,2,1,3]>(qs)
     kt = Transpose<perm=[0,2,3,1]>(ks)
     vt = Transpose<perm=[0,2,1,3]>(hs)
     scores = MatMul(qt, kt)
     p = Softmax<axis=-1>(scores)
     o = MatMul(p, vt)
     ot = Transpose<perm=[0,2,1,3]>(o)
     y = Reshape(ot, back) }""",
    table=_weights(100, 16),
    positions=_weights(64, 16),
    wq=_weights(16, 16),
    wk=_weights(16, 16),
    one=np.array(1),
    zero=np.array([0]),
    heads=np.array([0, 0, 4, 4]),
    back=np.array([0, 0, 16]),
)
UNET = _model(
    """g (float[1,3,H,V] x) => (float[1,A,B,C] y) {
     c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)
     u = Resize<mode="linear">(c, , scales)
     t = ConvTranspose<strides=[2,2]>(c, wt)
     y = Concat<axis=1>(x, u, t) }""",
    w=_weights(8, 3, 3, 3),
    b=_weights(8),
    scales=np.array([1, 1, 2, 2], np.float32),
    wt=_weights(8, 4, 2, 2),
)


def _feeds(model: onnx.ModelProto, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value or sizes[dim.dim_param] for dim in kind.shape.dim]
        whole = kind.elem_type == onnx.TensorProto.INT64
        feeds[value.name] = RNG.integers(0, 99, shape) if whole else RNG.normal(size=shape).astype(np.float32)
    return feeds


def _agree(model: onnx.ModelProto, package: Path, sizes: dict[str, int], limit: float) -> None:
    import onnxruntime

    feeds = _feeds(model, sizes)
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    engine = open_engine(package)
    found = engine.run({spec.name: feeds[spec.name].astype(spec.dtype) for spec in engine.inputs})
    (found,) = found.values()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= limit * np.abs(wanted).max()


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("model", "dims", "further", "verified"),
    [
        (CNN, {"N": "1..8", "H": 16, "V": 20}, [{"N": 3}, {"N": 7}], "N=8; N="),
        (CNN, {"N": "1,2,5", "H": 16, "V": 20}, [{"N": 2}, {"N": 5}], "N=2; N=5"),
        (CNN, {"H": "16..64", "V": "17..64"}, [{"N": 1, "H": 19, "V": 32}, {"N": 1, "H": 64, "V": 17}], "H=64, V=64"),
        (CNN, {"H": "16,32", "V": "20,40"}, [{"N": 1, "H": 16, "V": 40}], "H=16, V=40; H=32, V=20; H=32, V=40"),
        (ATTENTION, {"S": "16,32,64"}, [{"B": 1, "S": 32}], "S=32; S=64"),
        (ATTENTION, {"S": "1..64", "B": "1..4"}, [{"B": 2, "S": 64}, {"B": 1, "S": 37}], "B=4, S=64"),
        (UNET, {"H": "16,30", "V": "20,40"}, [{"H": 30, "V": 40}], "H=16, V=40; H=30, V=20; H=30, V=40"),
    ],
    ids=["batch", "batches", "image", "images", "sequences", "sequence", "unet"],
)
def test_one_package_serves_all_sizes(
    tmp_path: Path,
    model: onnx.ModelProto,
    dims: dict[str, Any],
    further: list[dict[str, int]],
    verified: str,
    recipe: str,
) -> None:
    onnx.save(model, tmp_path / "model.onnx")
    package = tmp_path / "model.mlpackage"
    made = convert(tmp_path / "model.onnx", output=package, dims=dims, compress=recipe)
    assert f"and resized to {verified}" in made.variant.verification.inputs
    fixed = {name: size for name, size in dims.items() if isinstance(size, int)}
    for sizes in further:
        _agree(model, package, {**fixed, **sizes}, LIMITS[recipe])


def test_what_is_declared(tmp_path: Path) -> None:
    onnx.save(CNN, tmp_path / "model.onnx")
    for dims, shapes, ranges in (
        ({"N": "1..8", "H": 16, "V": 16}, (), ((1, 8), (3, 3), (16, 16), (16, 16))),
        ({"H": "32,16", "V": 16}, ((1, 3, 32, 16), (1, 3, 16, 16)), ()),
    ):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", dims=dims, force=True)
        (feature,) = read_package(tmp_path / "m.mlpackage").inputs
        assert (feature.shapes, feature.ranges) == (shapes, ranges)
        assert feature.shape == (1, 3, dims["H"] if dims["H"] == 16 else 32, 16)  # the first is the default
        engine = open_engine(tmp_path / "m.mlpackage")
        with pytest.raises(FeedError, match="cannot have the shape"):
            engine.run({"x": np.zeros((9, 3, 16, 16) if ranges else (1, 3, 24, 16), np.float32)})


def test_enumerated_shapes_of_two_inputs_correspond(tmp_path: Path) -> None:
    """Core ML pairs them by their places, from iOS 18 on, which is then the deployment target."""
    onnx.save(ATTENTION, tmp_path / "model.onnx")
    made = convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", dims={"S": "8,4", "B": "1,2"})
    ids, more = read_package(tmp_path / "m.mlpackage").inputs
    assert ids.shapes == ((1, 8), (1, 4), (2, 8), (2, 4))
    assert more.shapes == tuple((*shape, 16) for shape in ids.shapes)
    assert made.variant.min_runtime == "iOS18"
    with pytest.raises(UnsupportedError, match=r"several inputs \(ids, more\) are there from iOS 18 on; use iOS18"):
        convert(
            tmp_path / "model.onnx",
            output=tmp_path / "n.mlpackage",
            dims={"S": "8,4"},
            deployment_target="iOS17",
        )


REFUSALS = [
    ({"S": "8..64", "B": "1,2"}, UnsupportedError, "enumerate the sizes of S too"),
    ({}, UnsupportedError, "S .dimension.: its size is not fixed; fix it with --dim S=SIZE, or give several"),
    ({"S": "8..65"}, UnsupportedError, "the model itself does not run at S=65"),
    ({"S": "8,16", "B": "2,3"}, UsageError, "let 1 be one of its sizes"),
    ({"T": "8,16"}, UsageError, "no symbolic dimension 'T'; it has B, S"),
]


@pytest.mark.parametrize(("dims", "error", "message"), REFUSALS)
def test_what_cannot_be_is_refused(tmp_path: Path, dims: dict[str, Any], error: type[Exception], message: str) -> None:
    onnx.save(ATTENTION, tmp_path / "model.onnx")
    with pytest.raises(error, match=message):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", dims=dims)
    assert not (tmp_path / "m.mlpackage").exists()


def test_an_operand_that_must_be_constant_is_refused_by_node(tmp_path: Path) -> None:
    text = "g (float[1,S] x) => (float[1,T] y, int64[1,T] i) { n = Shape<start=1>(x) y, i = TopK(x, n) }"
    model = _model(text)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match=r"\(TopK\).*must be const.*fix the size with --dim S=4"):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", dims={"S": "4,8"})


def test_several_sizes_are_for_core_ml(tmp_path: Path) -> None:
    onnx.save(CNN, tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=r"--dim N=1\.\.8: several sizes are for coreml; tflite leaves"):
        convert(tmp_path / "model.onnx", to="tflite", output=tmp_path / "m.tflite", dims={"N": "1..8"})


def test_a_package_that_is_wrong_at_one_size_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size is run: here a size is written as a constant although it varies."""
    from haversack.convert.targets.coreml.operands import Operands

    onnx.save(ATTENTION, tmp_path / "model.onnx")
    monkeypatch.setattr(Operands, "made", lambda self, values: self.constant(values[0]))
    with pytest.raises((VerificationError, UnsupportedError)):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", dims={"S": "4,8", "B": 1})


def test_sizes_are_read_from_the_command_line() -> None:
    assert dims_of(["batch=1..8", "seq=16, 32,64", "n=4"]) == {"batch": "1..8", "seq": "16,32,64", "n": 4}
    assert parsed("8..8") is parsed("8..1") is parsed("x..8") is parsed("4,4") is parsed("0,4") is None
    for text in ("seq=8..1", "seq=4,", "seq=0"):
        with pytest.raises(UsageError, match="write it as NAME=SIZE"):
            dims_of([text])


def test_points_hold_every_enumerated_size_and_all_ends() -> None:
    looked, checked = points({"n": Flexible((1, 8), ranged=True), "s": Flexible((16, 32, 64))})
    assert {(row["n"], row["s"]) for row in checked} >= {(n, s) for n in (1, 8) for s in (16, 32, 64)}
    assert {row["s"] for row in looked} == {16, 32, 64}
    assert checked[-1] not in looked
    assert {row["n"] for row in looked} >= {1, 8}
