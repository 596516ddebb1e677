"""What a page may give a model: images by the manifest's preprocessing, and every element type."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from browsing import Watched, ready, served
from onnx import TensorProto, helper, numpy_helper

from haversack.convert import convert
from haversack.runtimes import Preprocess
from haversack.runtimes.engines.browser import vendored

pytestmark = pytest.mark.slow


def web(model: onnx.ModelProto, folder: Path, **options: Any) -> Path:
    if not vendored.is_here("onnxruntime-web"):
        pytest.skip("onnxruntime-web is not here: make vendor fetches it where npm is")
    path = folder / "model.onnx"
    onnx.save(model, path)
    made = folder / "made.web"
    assert convert(path, to="web", output=made, **options).verified
    return made


def built(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def image_model(layout: str, channels: int) -> onnx.ModelProto:
    """Every pixel counts, each with a weight of its own: 6 rows, 5 columns, 4 outputs."""
    shape = [1, channels, 6, 5] if layout == "NCHW" else [1, 6, 5, channels]
    weights = np.random.default_rng(7).normal(size=(30 * channels, 4)).astype(np.float32)
    return built(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        {"w": weights},
    )


@pytest.mark.parametrize(("layout", "color", "scale", "mean", "std"), [
    ("NCHW", "rgb", 1 / 255, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
    ("NHWC", "bgr", 1.0, (103.9, 116.8, 123.7), (1.0,)),
    ("NHWC", "grayscale", 1 / 127.5, (1.0,), (1.0,)),
])  # fmt: skip
def test_an_image_becomes_the_input_that_preprocess_makes(
    layout: str, color: Any, scale: float, mean: tuple[float, ...], std: tuple[float, ...],
    tmp_path: Path, watched: Watched,
) -> None:  # fmt: skip
    """A PNG of the input's own size, so that nothing is resized: the page's result is onnxruntime's."""
    pillow = pytest.importorskip("PIL.Image")
    prepare = Preprocess(size=(6, 5), color=color, scale=scale, mean=mean, std=std)
    root = web(image_model(layout, 1 if color == "grayscale" else 3), tmp_path, preprocess=prepare)
    pixels = np.random.default_rng(3).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    packed = io.BytesIO()
    pillow.fromarray(pixels).save(packed, "PNG")
    session = onnxruntime.InferenceSession(str(root / "model.onnx"), providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    fitted = prepare.fit(spec.shape, "float32")
    expected = session.run(None, {"x": fitted.apply(pixels)[None]})[0].ravel()
    with served(root) as server:
        page = watched.page()
        page.goto(server.url)
        page.wait_for_function("() => globalThis.crossOriginIsolated", timeout=60_000)
        ready(page)
        page.select_option("#source", "image")
        page.evaluate("document.querySelector('#result').replaceChildren()")
        page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": packed.getvalue()})
        page.wait_for_selector("#result .scores")
        assert page.locator("#shown canvas").count() == 1
        shown = page.locator("#result .scores li").all_inner_texts()
        page.set_input_files("#image", {"name": "b.png", "mimeType": "image/png", "buffer": b"no image"})
        page.wait_for_selector("#result .bad")
        assert page.inner_text("#result .bad") == "b.png is no image that this browser can read"
    found = {name: float(value) for name, value in (text.rsplit(maxsplit=1) for text in shown)}
    wanted = {f"class {index}": value for index, value in enumerate(expected)}
    assert found.keys() == wanted.keys()
    peak = np.abs(expected).max()
    for name, value in wanted.items():  # half a unit of the fourth digit is shown, and float32 rounds
        assert abs(found[name] - value) <= 5.1e-4 * abs(value) + 1e-5 * peak


TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


def test_every_element_type_goes_in_and_out(tmp_path: Path, watched: Watched) -> None:
    """One model with an input of each type, each passed on."""
    names = list(TYPES)
    model = built(
        [helper.make_node("Concat", [f"in_{n}", f"in_{n}"], [f"out_{n}"], axis=0) for n in names],
        [helper.make_tensor_value_info(f"in_{n}", TYPES[n], [3]) for n in names],
        [helper.make_tensor_value_info(f"out_{n}", TYPES[n], [6]) for n in names],
        {},
    )
    root = web(model, tmp_path)
    numbers = {n: [1, 0, 1] if n == "bool" else [0.5, -1.25, 3] if n.startswith("float") else [1, 2, 3] for n in names}
    code = """async ([url, numbers]) => {
      const { load } = await import(url + "haversack.js");
      const model = await load(url);
      const plain = (found) => Object.fromEntries(
        Object.entries(found).map(([name, { data, dtype }]) => [name, [dtype, Array.from(data, Number)]]));
      const lists = plain(await model.run(numbers));
      const typed = plain(await model.run({ ...numbers, in_int64: BigInt64Array.from([1n, 2n, 3n]),
        in_uint8: { data: Uint8Array.from([1, 2, 3]), shape: [3] } }));
      const refused = [];
      for (const [name, wrong] of [["in_int8", [1, 2, 300]], ["in_int32", [1, 2.5, 3]], ["in_float32", [1, NaN, 3]],
                                   ["in_float64", new Float64Array([1, Infinity, 3])], ["in_int64", [1, 2]],
                                   ["in_bool", ["a", "b", "c"]], ["in_uint8", [-1, 2, 3]]]) {
        refused.push(await model.run({ ...numbers, [name]: wrong }).then(() => `${name} was taken`, (e) => e.message));
      }
      refused.push(await model.run([1, 2, 3]).then(() => "taken", (e) => e.message));
      refused.push(await model.run({ ...numbers, other: [1] }).then(() => "taken", (e) => e.message));
      const check = await model.selfTest();
      return { lists, typed, refused, ok: check.ok, results: check.results.length };
    }"""
    with served(root) as server:
        page = watched.page()
        page.goto(server.url)
        page.wait_for_function("() => globalThis.crossOriginIsolated", timeout=60_000)
        ready(page)
        found = page.evaluate(code, [server.url, {f"in_{name}": value for name, value in numbers.items()}])
    for n in names:
        assert found["lists"][f"out_{n}"] == [n, [float(value) for value in numbers[n] * 2]]
    assert found["typed"] == found["lists"]
    assert found["ok"]
    assert found["results"] % len(names) == 0
    assert found["refused"][:7] == [
        "input in_int8 is of int8 and holds 300",
        "input in_int32 is of int32 and holds 2.5",
        "input in_float32 holds NaN or infinity",
        "input in_float64 holds NaN or infinity",
        "input in_int64 has 2 elements, [3] takes 3",
        'input in_bool holds "a", which is no number',
        "input in_uint8 is of uint8 and holds -1",
    ]
    assert found["refused"][7].startswith("the model has the inputs in_float32,")
    assert found["refused"][8].startswith("the model has no input other; it has in_float32,")
