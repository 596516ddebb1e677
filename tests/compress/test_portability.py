"""Saturating int8 products: against the instruction written out, and against onnxruntime on an emulated old CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haversack.convert.compress import compress
from haversack.convert.compress.methods.portability import LIMIT, pair_sums, saturated
from haversack.convert.compress.recipes import Recipe
from haversack.convert.hub.evaluate import Evaluator


def maddubs(a: int, b: int, c: int, d: int) -> int:
    """PMADDUBSW for one pair: u8 a, c and s8 b, d."""
    return max(-32768, min(32767, a * b + c * d))


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([32, 64, 127]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_the_instruction(seed, products, limit, extreme) -> None:
    random = np.random.default_rng(seed)
    activations = random.integers(200 if extreme else 0, 256, (4, products)).astype(np.uint8)
    weights = random.integers(-limit, limit + 1, (3, products)).astype(np.int8)
    if extreme:
        weights = (np.sign(weights) * limit).astype(np.int8)
    exact, found = pair_sums(activations, weights)
    for row, each in enumerate(activations.tolist()):
        for output, other in enumerate(weights.tolist()):
            pairs = [*zip(each, other, strict=True), (0, 0)]
            total = sum(maddubs(*pairs[i], *pairs[i + 1]) for i in range(0, products, 2))
            assert found[row, output] == total
            assert exact[row, output] == sum(a * b for a, b in zip(each, other, strict=True))
    if limit <= LIMIT:
        np.testing.assert_array_equal(found, exact)


@pytest.fixture
def saturating(build):
    """Layers whose weights are all large, and of one sign at neighbours: an input of ones saturates them."""
    random = np.random.default_rng(1)
    w = np.repeat(random.choice([-1.0, 1.0], (16, 3, 3, 4)), 2, axis=3)[..., :3].transpose(0, 3, 1, 2)
    depthwise = np.ones((16, 1, 3, 3))
    dense = random.normal(size=(10, 16))
    model = build(
        [
            ("Conv", ("x", "w", "b"), "c", {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "strides": [2, 1]}),
            ("Relu", ("c",), "r", None),
            ("Conv", ("r", "d"), "e", {"kernel_shape": [3, 3], "group": 16}),
            ("Relu", ("e",), "s", None),
            ("GlobalAveragePool", ("s",), "g", None),
            ("Flatten", ("g",), "f", None),
            ("Gemm", ("f", "v"), "y", {"transB": 1}),
        ],
        {"x": (1, 3, 9, 9)},
        ["y"],
        w=(w + random.normal(0, 0.02, w.shape)).astype(np.float32),
        b=random.normal(size=16).astype(np.float32),
        d=depthwise.astype(np.float32),
        v=dense.astype(np.float32),
    )
    batches = [{"x": random.uniform(-1, 1, (1, 3, 9, 9)).astype(np.float32)} for _ in range(12)]
    return model, batches


def test_a_layer_that_saturates_is_found_and_the_reduced_range_rules_it_out(saturating) -> None:
    model, batches = saturating
    made = compress(model, Recipe("int8", weights="per-channel"), batches).model
    found = saturated(made, batches)
    assert found.happens
    assert found.sums["Conv_0"] > 0.05
    assert "Conv_2" not in found.sums  # depthwise
    assert found.layers == 2
    assert found.signal_to_noise < 40
    assert "reduced-range" in found.notes[0]
    reduced = compress(model, Recipe("int8", weights="per-channel", methods=("reduced-range",)), batches).model
    for node in reduced.graph:
        if node.op_type in ("Conv", "Gemm"):
            stored = node.inputs[1].producer().inputs[0].const_value.numpy()
            assert np.abs(stored.astype(int)).max() == LIMIT
    safe = saturated(reduced, batches)
    assert not safe.happens
    assert safe.signal_to_noise == np.inf
    assert safe.agreement == 1


def test_the_exact_outputs_are_the_evaluators(saturating) -> None:
    model, batches = saturating
    made = compress(model, Recipe("int8"), batches).model
    evaluator = Evaluator(made)
    found = saturated(made, batches).outputs["y"]
    for feeds, (exact, _) in zip(batches, found, strict=True):
        np.testing.assert_array_equal(exact, evaluator.run(feeds)["y"])


OLD_CPU = """
import sys
sys.path[:0] = {path!r}
import numpy as np, onnxruntime as ort
session = ort.InferenceSession({model!r}, providers=["CPUExecutionProvider"])
data = np.load({data!r})
np.save({out!r}, np.concatenate([session.run(None, {{session.get_inputs()[0].name: x[None]}})[0] for x in data]))
"""


@pytest.mark.slow
def test_onnxruntime_on_a_cpu_without_vnni_computes_what_was_predicted(saturating, tmp_path) -> None:
    """A Haswell, emulated by QEMU instruction by instruction, runs the artifact with its own kernels."""
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-x86_64 (Debian's qemu-user) is not installed")
    from haversack.convert import convert

    model, batches = saturating
    source, calibration = tmp_path / "model.onnx", tmp_path / "data.npz"
    ir.save(model, source)
    data = np.concatenate([feeds["x"] for feeds in batches])
    np.savez(calibration, x=data)
    np.save(tmp_path / "data.npy", data)
    artifact = tmp_path / "int8.onnx"
    convert(source, compress="int8", weights="per-channel", calibration=calibration, output=artifact)
    script = OLD_CPU.format(
        path=[entry for entry in sys.path if "site-packages" in entry],
        model=str(artifact),
        data=str(tmp_path / "data.npy"),
        out=str(tmp_path / "out.npy"),
    )
    python = str(__import__("pathlib").Path(sys.executable).resolve())
    subprocess.run([qemu, "-cpu", "Haswell", python, "-c", script], check=True, capture_output=True, timeout=300)
    found = np.load(tmp_path / "out.npy")
    from haversack.convert.data import open_data
    from haversack.convert.hub.shapes import bind_batch
    from haversack.convert.sources import read
    from haversack.convert.verify.edges import model_specs

    hub = bind_batch(read(source).model)
    feeds = [dict(each) for each, _ in open_data(calibration, model_specs(list(hub.graph.inputs)), None).batches(1)]
    predicted = saturated(compress(hub, Recipe("int8", weights="per-channel"), feeds).model, feeds)
    (pairs,) = predicted.outputs.values()
    assert predicted.happens
    np.testing.assert_array_equal(found, np.concatenate([other for _, other in pairs]))
    assert not np.array_equal(found, np.concatenate([exact for exact, _ in pairs]))
