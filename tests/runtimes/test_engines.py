from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from haversack.runtimes.engines import Engine, litert, onnxruntime, open_engine
from haversack.runtimes.errors import EngineError

from .conftest import onnx_double, tflite_double

VALUES = np.array([[1.0, -2.0, 0.5, 1e38]], np.float32)


@pytest.fixture(params=["tflite", "onnx", "ort", "tflite-bytes", "onnx-bytes", "tflite-plain", "onnx-plain"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    kind, _, how = request.param.partition("-")
    content = tflite_double() if kind == "tflite" else onnx_double()
    path = tmp_path / f"m.{'onnx' if kind == 'ort' else kind}"
    path.write_bytes(content)
    if kind == "ort":
        import onnxruntime as vendor

        options = vendor.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "m.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        vendor.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return open_engine(tmp_path / "m.ort")
    if how == "bytes":
        return open_engine(f"m.{kind}", content=content)
    if how == "plain":
        return litert.open_artifact(path, xnnpack=False) if kind == "tflite" else (
            onnxruntime.open_artifact(path, optimize=False, threads=2)
        )  # fmt: skip
    return open_engine(path)


def test_an_engine_computes_what_numpy_computes(engine: Engine) -> None:
    (given,), (gives,) = engine.inputs, engine.outputs
    assert (given.dtype, given.shape[1:], engine.emulated) == ("float32", (4,), False)
    assert engine.version[0].isdigit()
    expected = VALUES + VALUES
    for _ in range(3):
        found = engine.run({given.name: VALUES})
        assert list(found) == [gives.name]
        np.testing.assert_array_equal(found[gives.name], expected)


def test_an_output_is_not_overwritten_by_the_next_call(engine: Engine) -> None:
    name, output = engine.inputs[0].name, engine.outputs[0].name
    first = engine.run({name: VALUES})[output]
    kept = first.copy()
    engine.run({name: VALUES * 0})
    np.testing.assert_array_equal(first, kept)


def test_an_array_with_strides_is_read_right(engine: Engine) -> None:
    wide = np.arange(16, dtype=np.float32).reshape(2, 8)
    view = wide[:1, ::2]
    assert not view.flags.c_contiguous or view.strides != (16, 4)
    found = engine.run({engine.inputs[0].name: view})[engine.outputs[0].name]
    np.testing.assert_array_equal(found, [[0, 4, 8, 12]])


@pytest.mark.parametrize(
    "feeds",
    [{}, {"other": VALUES}, {"extra": VALUES, "more": VALUES}, None, np.zeros((1, 5), np.float32), VALUES.astype("f8")],
    ids=["none", "other", "two", "strings", "shape", "dtype"],
)
def test_a_wrong_feed_is_one_line_and_the_engine_lives_on(engine: Engine, feeds: object) -> None:
    name, output = engine.inputs[0].name, engine.outputs[0].name
    if not isinstance(feeds, dict):
        feeds = {name: np.array([["a"] * 4]) if feeds is None else feeds}
    with pytest.raises(EngineError) as caught:
        engine.run(feeds)
    assert "\n" not in str(caught.value)
    assert "[ONNXRuntimeError]" not in str(caught.value)
    np.testing.assert_array_equal(engine.run({name: VALUES * 0})[output], [[0, 0, 0, 0]])


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".ort"])
@pytest.mark.parametrize("content", [None, b"", b"text\n" * 99, b"\0" * 500], ids=["missing", "empty", "text", "zeros"])
def test_a_bad_file_is_one_line_and_nothing_on_stderr(
    tmp_path: Path, suffix: str, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"bad{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match="bad") as caught:
        open_engine(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"known are \.tflite"):
        open_engine(tmp_path / "m.pt")


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_opening_and_running_prints_nothing(tmp_path: Path, kind: str) -> None:
    """In a fresh process, since a banner is printed only once."""
    path = tmp_path / f"m.{kind}"
    path.write_bytes(tflite_double() if kind == "tflite" else onnx_double())
    code = (
        "import sys, numpy as np; from haversack.runtimes import load;"
        "m = load(sys.argv[1]); m({m.inputs[0].name: np.zeros((1, 4), 'f4')});"
        "print('mine', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "mine\n")


def test_a_missing_vendor_library_is_an_engine_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_double())
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from haversack.runtimes import load, EngineError\n"
        "try: load(sys.argv[1])\n"
        "except EngineError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "m.onnx needs the onnxruntime engine, which is not installed" in done.stdout


def test_two_names_of_one_onnx_dimension_and_outputs_that_are_no_arrays() -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(EngineError, match="y is a seq"):
        onnxruntime.open_artifact(model.SerializeToString())


def test_litert_reads_quantization_signatures_and_dynamic_batches(shared_data: Path) -> None:
    int8 = open_engine(shared_data / "mlperf_tiny" / "kws_int8.tflite")
    assert isinstance(int8, litert.LitertEngine)
    # The scale and zero point that MLPerf Tiny publishes with the data set (shared/data/README.md).
    scale, zero_point = int8.quantization["input_1"]
    assert (round(scale, 7), zero_point) == (0.5847029, 83)
    floating = open_engine(shared_data / "mlperf_tiny" / "resnet8_float32.tflite")
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    name, output = floating.inputs[0].name, floating.outputs[0].name
    batch = floating.run({name: images})[output]
    singles = np.concatenate([floating.run({name: image[None]})[output] for image in images])
    # Each is a softmax of about 40 additions deep in float32: 1e-5 is some 100 times the rounding of one of them.
    np.testing.assert_allclose(batch, singles, atol=1e-5)
    with pytest.raises(EngineError, match="resize"):
        floating.run({name: images[:, :31]})
    np.testing.assert_array_equal(floating.run({name: images[:1]})[output], singles[:1])


def test_xnnpack_can_be_left_out(shared_data: Path) -> None:
    path = shared_data / "mlperf_tiny" / "resnet8_float32.tflite"
    with_, without = litert.open_artifact(path), litert.open_artifact(path, xnnpack=False)
    delegated = [detail["op_name"] for detail in with_._interpreter._get_ops_details()]
    assert "DELEGATE" in delegated
    assert "DELEGATE" not in [detail["op_name"] for detail in without._interpreter._get_ops_details()]
