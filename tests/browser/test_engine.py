"""onnxruntime-web in a real Chromium against native onnxruntime: what goes in, what comes out, what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from haversack.runtimes import EngineError, load
from haversack.runtimes.engines import browser, open_engine
from haversack.runtimes.engines.browser.frames import pack, unpack
from haversack.runtimes.engines.browser.unsupported import INPUT_OUTPUT_TYPES

from .conftest import one_node

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "demo" / "haversack" / "demo" / "digits"


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_digits_as_native_onnxruntime(threads: int) -> None:
    native = open_engine(DIGITS / "digits.onnx")
    engine = browser.open_artifact(DIGITS / "digits.onnx", threads=threads)
    images = np.load(DIGITS / "evaluation.npz")["image"][:100]
    samples = [{"image": image[None]} for image in images]
    assert engine.inputs == native.inputs
    assert engine.outputs == native.outputs
    found = engine.run_many(samples)
    for feeds, one in zip(samples, found, strict=True):
        wanted = native.run(feeds)["probabilities"]
        assert np.abs(one["probabilities"] - wanted).max() <= 1e-4 * np.abs(wanted).max()
    np.testing.assert_array_equal(engine.run(samples[7])["probabilities"], found[7]["probabilities"])
    assert engine.facts.threads == threads
    assert engine.workers == threads - 1  # as Chromium counts them, not as the runtime says
    assert engine.facts.isolated
    assert engine.version.startswith("onnxruntime-web 1.30.0 in Chrome/")


def test_times_are_of_calls_that_were_made() -> None:
    engine = browser.open_artifact(DIGITS / "digits.onnx")
    feeds = {"image": np.zeros((1, 8, 8, 1), np.float32)}
    many = {"image": np.zeros((256, 8, 8, 1), np.float32)}
    one = engine.time(feeds, seconds=0.3, warm_up=20)
    other = engine.time(many, seconds=0.3, warm_up=5)
    assert len(one) >= 5
    assert (one >= 0).all()
    # 256 samples are 256 times the arithmetic; a clock that made its numbers up would not know.
    assert np.median(other) > 5 * np.median(one)
    # An isolated page's clock ticks in steps of 5 microseconds, another's in steps of 100.
    steps = np.diff(np.unique(np.round(one * 1e3)))
    assert steps.min() < 50
    assert len(engine.time(feeds, seconds=60, runs=7)) == 7


@pytest.mark.parametrize("name", sorted(INPUT_OUTPUT_TYPES))
def test_every_type_goes_in_and_out(name: str) -> None:
    element = getattr(TensorProto, {"float": "FLOAT", "double": "DOUBLE"}.get(name, name.upper()))
    content = one_node("Identity", element, (2, 3))
    engine = browser.open_artifact(content)
    if name == "string":
        value = np.array([["", 'a\n"b"', "é"], ["🙂", "x" * 1000, " "]], object)
    else:
        dtype = helper.tensor_dtype_to_np_dtype(element)
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            value = np.array([[info.min, info.max, 0], [1, 2, info.max - 1]], dtype)
        else:
            value = np.array([[0, 1, -1], [0.1, 6e4, 1e-5]]).astype(dtype)
    (found,) = engine.run({"x": value}).values()
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)
    assert engine.inputs[0].dtype == ("object" if name == "string" else value.dtype.name)


def test_nan_and_infinity_come_out_as_they_are() -> None:
    engine = browser.open_artifact(one_node("Log"))
    values = np.array([[-1.0, 0.0, 1.0, np.inf]], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(engine.run({"x": values})["y"], np.log(values))


def test_symbolic_sizes_take_what_they_are_fed() -> None:
    engine = browser.open_artifact(one_node("Neg", shape=("rows", None, 2)))
    assert engine.inputs[0].shape == ("rows", "x_1", 2)
    for shape in ((1, 1, 2), (5, 3, 2), (2, 0, 2)):
        value = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.testing.assert_array_equal(engine.run({"x": value})["y"], -value)


def test_scalars_and_strides() -> None:
    scalar = browser.open_artifact(one_node("Neg", shape=()))
    assert scalar.run({"x": np.float32(3)})["y"] == np.float32(-3)
    wide = np.arange(16, dtype=np.float32).reshape(2, 8)
    found = browser.open_artifact(one_node("Neg")).run({"x": wide[:1, ::2]})["y"]
    np.testing.assert_array_equal(found, [[0, -2, -4, -6]])


def test_an_ort_file_runs_too(tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(one_node("Neg"), options, providers=["CPUExecutionProvider"])
    value = np.ones((2, 4), np.float32)
    with load(tmp_path / "m.ort", engine="browser") as model:
        np.testing.assert_array_equal(model(value)["y"], -value)
        np.testing.assert_array_equal(model.run_many([{"x": value}] * 3)[2]["y"], -value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no model at all", "rejects it"),
        (one_node("Neg")[:-9], "rejects it"),
        (one_node("Nonsense"), "Nonsense"),
        (one_node("SequenceConstruct"), "Type Error"),
    ],
    ids=["text", "cut", "unknown operator", "another type than declared"],
)
def test_what_is_no_model_is_one_line_and_the_browser_lives_on(content: bytes, says: str) -> None:
    before = browser.open_artifact(one_node("Neg"))
    with pytest.raises(EngineError) as caught:
        browser.open_artifact(content, label="m.onnx")
    assert str(caught.value).startswith("m.onnx: ")
    assert "\n" not in str(caught.value)
    assert says in str(caught.value)
    assert "ERROR_CODE" not in str(caught.value)
    assert before._browser is not None
    assert before._browser.alive
    assert before.run({"x": np.ones((1, 4), np.float32)})["y"][0, 0] == -1


def test_weights_in_another_file_are_refused_with_the_remedy(tmp_path: Path) -> None:
    model = onnx.load_from_string(one_node("Neg", shape=(2,)))
    model.graph.node[0].input[0] = "w"
    del model.graph.input[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "w"))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    with pytest.raises(EngineError, match=r"^m\.onnx: browser rejects it: .*keep the weights in the file"):
        browser.open_artifact(path)


def test_a_bundle_runs_in_the_browser() -> None:
    images = np.load(DIGITS / "evaluation.npz")["image"][:20]
    with load(DIGITS / "digits.haversack", engine="browser") as model:
        assert model.variant is not None
        assert model.variant.target == "onnx"
        with load(DIGITS / "digits.haversack", variant=model.variant.id) as native:
            for image in images:
                wanted = native(image[None])["probabilities"]
                np.testing.assert_allclose(model(image[None])["probabilities"], wanted, atol=1e-4)
        assert model.check().ok


def test_a_sequence_is_refused_by_its_name() -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["many"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    with pytest.raises(EngineError, match="many is a sequence"):
        browser.open_artifact(model.SerializeToString())


@pytest.mark.parametrize(
    "feeds",
    [{}, {"z": np.ones((1, 4), np.float32)}, {"x": np.ones((1, 4))}, {"x": np.ones((1, 5), np.float32)}],
    ids=["none", "other name", "float64", "other shape"],
)
def test_a_wrong_feed_is_one_line(feeds: dict[str, np.ndarray]) -> None:
    engine = browser.open_artifact(one_node("Neg"), label="m.onnx")
    with pytest.raises(EngineError, match=r"^m\.onnx: "):
        engine.run(feeds)
    assert engine.run({"x": np.ones((1, 4), np.float32)})["y"].shape == (1, 4)


def test_many_models_share_one_browser_and_are_let_go() -> None:
    engines = [browser.open_artifact(one_node("Neg")) for _ in range(3)]
    shared = {id(engine._browser) for engine in engines}
    assert len(shared) == 1
    held, number = engines[0]._browser, engines[0]._id
    assert held is not None
    del engines
    with pytest.raises(EngineError):
        held.ask({"do": "run", "id": number, "samples": 1}, [("x", np.ones((1, 4), np.float32))], seconds=20)


arrays = st.sampled_from(["float32", "float16", "int64", "uint8", "bool", "float64"]).flatmap(
    lambda dtype: st.lists(st.integers(0, 3), max_size=4).map(
        lambda shape: np.random.default_rng(len(shape)).integers(0, 2, shape).astype(dtype)
    )
)


@given(st.lists(st.tuples(st.text(max_size=5), arrays), max_size=4), st.dictionaries(st.text(), st.integers()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_frame_is_read_back_as_it_was(named: list[tuple[str, np.ndarray]], header: dict[str, int]) -> None:
    header.pop("arrays", None)
    frame = pack(header, named)
    assert len(frame) % 8 == 0
    read, found = unpack(frame)
    assert read == header
    assert [name for name, _ in found] == [name for name, _ in named]
    for (_, one), (_, two) in zip(found, named, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


def test_the_newest_opset_is_what_the_preflight_says() -> None:
    from haversack.runtimes.engines.browser.unsupported import MAX_OPSET

    model = onnx.load_from_string(one_node("Neg"))
    model.opset_import[0].version = MAX_OPSET
    browser.open_artifact(model.SerializeToString())
    model.opset_import[0].version = MAX_OPSET + 1
    with pytest.raises(EngineError, match="rejects it"):
        browser.open_artifact(model.SerializeToString())
