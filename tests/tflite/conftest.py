"""What the TFLite tests share: running files with and without XNNPACK, small hub graphs, and layer-by-layer checks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from haversack.convert.compress import compress
from haversack.convert.compress.mixed import apply_plan, observe_model
from haversack.convert.compress.plan import Plan
from haversack.convert.compress.recipes import Recipe
from haversack.convert.hub import IR_VERSION, OPSET
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub
from haversack.convert.targets import Options, Written
from haversack.convert.targets.tflite import TARGET, extract

sys.path.append(str(Path(__file__).parent))  # the modules beside the tests, as kernel_cases

FLOAT = 1e-5
"""max abs difference / max abs of an output. A float32 sum of n products is off by at most n/2 ulp (6e-8 each) of the
sum of magnitudes; with the few hundred terms of these graphs that is below 1e-5."""


def execute(data: bytes, feeds: Mapping[str, np.ndarray], xnnpack: bool = True) -> dict[str, np.ndarray]:
    """Run a `.tflite` once, by its signature where it has names, on LiteRT's own kernels or on XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    given: dict[str, Any] = {}
    if not xnnpack:
        given["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=data, num_threads=1, **given)
    interpreter.allocate_tensors()
    return dict(interpreter.get_signature_runner("serving_default")(**feeds))


def hub_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    declared: Mapping[str, np.ndarray] | None = None,
) -> ir.Model:
    """The hub graph of a few nodes; outputs have the types of `declared`, or inferred ones."""

    def info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    typed = declared or {}
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [info(name, array) for name, array in inputs.items()],
            [info(n, typed[n]) if n in typed else onnx.ValueInfoProto(name=n) for n in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    return to_hub(ir.from_proto(proto))


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Types, shapes and infinities equal; integers exact; floats within `tolerance` of the largest magnitude."""
    assert found.dtype == expected.dtype, what
    assert found.shape == expected.shape, what
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected, err_msg=what)
        return
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=what)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(found), finite, err_msg=what)
    if finite.any():
        scale = max(float(np.abs(expected[finite]).max()), 1e-6)
        worst = float(np.abs(found.astype(np.float64) - expected)[finite].max()) / scale
        assert worst <= tolerance, f"{what}: {worst:.2e}"


class Bench:
    """Lowers hub graphs into a temporary folder and compares what the files compute with onnxruntime.

    Args:
        folder: Where artifacts are written.
    """

    def __init__(self, folder: Path):
        self.path = folder / "model.tflite"

    def write(self, model: ir.Model, recipe: str = "fp32", **options: Any) -> Written:
        """Write the artifact."""
        return TARGET.write(model, recipe, self.path, Options(**options))

    @property
    def data(self) -> bytes:
        """The bytes last written."""
        return self.path.read_bytes()

    def agree(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] = ("y",),
        constants: Mapping[str, Any] | None = None,
        *,
        declared: Mapping[str, np.ndarray] | None = None,
        tolerance: float = FLOAT,
    ) -> Written:
        """Assert that a graph lowered in float computes what onnxruntime does, with and without XNNPACK."""
        model = hub_graph(nodes, inputs, outputs, constants, declared)
        expected = Evaluator(model).run(inputs)
        written = self.write(model)
        for xnnpack in (True, False):
            found = execute(self.data, inputs, xnnpack)
            for name in outputs:
                assert_close(found[name], expected[name], tolerance, f"{name}, XNNPACK {xnnpack}")
        return written

    def quantized(
        self, nodes: Sequence[onnx.NodeProto], calibration: Sequence[Mapping[str, np.ndarray]], **more: Any
    ) -> ir.Model:
        """The int8 hub graph of a few nodes; `more` are `outputs` and `constants`."""
        model = hub_graph(nodes, calibration[0], more.pop("outputs", ("y",)), more.pop("constants", None))
        return compress(model, Recipe("int8", **more), calibration).model

    def int16(
        self,
        nodes: Sequence[onnx.NodeProto],
        calibration: Sequence[Mapping[str, np.ndarray]],
        constants: Mapping[str, Any],
    ) -> ir.Model:
        """The hub graph of a few nodes with int16 activations."""
        model = hub_graph(nodes, calibration[0], ("y",), constants)
        observed = observe_model(model, lambda: calibration)
        return apply_plan(model, Plan("int16", arithmetic="int16"), observed)[0]

    def layers_agree(
        self,
        model: ir.Model,
        feeds: Mapping[str, np.ndarray],
        recipe: str = "int8",
        lsb: int = 1,
        **options: Any,
    ) -> Written:
        """Assert that each layer, fed the hub's own inputs, gives the hub's result to `lsb` (floats to `FLOAT`)."""
        written = self.write(model, recipe, **options)
        names = {tap.value for layer in written.layers for tap in (*layer.inputs, *layer.outputs)} - set(feeds)
        values = {**feeds, **Evaluator(model, sorted(names)).run(feeds)}
        assert written.layers
        for layer in written.layers:
            cut = extract.layer(self.data, layer)
            given = {f"tensor_{t.tensor}": moved(values[t.value], t.permutation) for t in layer.inputs}
            for xnnpack in (True, False):
                found = execute(cut, given, xnnpack)
                for tap in layer.outputs:
                    result = found[f"tensor_{tap.tensor}"]
                    expected = moved(values[tap.value], tap.permutation)
                    what = f"{layer.name} ({layer.op}), XNNPACK {xnnpack}"
                    if expected.dtype == np.int8 and result.dtype == np.int8:
                        assert found_lsb(result, expected) <= lsb, what
                    else:
                        assert_close(result, expected, FLOAT, what)
        return written


def found_lsb(found: np.ndarray, expected: np.ndarray) -> int:
    """The largest difference of integers."""
    assert found.shape == expected.shape
    return int(np.abs(found.astype(np.int64) - expected).max())


def moved(array: np.ndarray, permutation: tuple[int, ...] | None) -> np.ndarray:
    """A hub array in an artifact's axis order."""
    return np.ascontiguousarray(array if permutation is None else array.transpose(permutation))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def run() -> Callable[..., dict[str, np.ndarray]]:
    return execute


@pytest.fixture
def graph_of() -> Callable[..., ir.Model]:
    return hub_graph
