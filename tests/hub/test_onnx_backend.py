"""ONNX's own operator tests through the hub: what comes out computes what the specification says.

Each case runs three times: as published; with all inputs but the first as initializers, as real models have them (this
is what the passes work on); and with every input an initializer (the whole graph is folded).
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub import OPSET
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub

NUMPY_TYPES = frozenset(
    {
        *(onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE),
        *(onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64),
        *(onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64),
    }
)
OWN = {
    # What onnxruntime, which evaluates the hub, answers differently from the specification with the model untouched.
    "test_maxunpool_export_with_output_shape": "onnxruntime places the values elsewhere",
    "test_resize_downsample_scales_linear_align_corners": "onnxruntime rounds the size the other way",
    "test_resize_downsample_scales_cubic_align_corners": "onnxruntime rounds the size the other way",
    "test_reduce_max_empty_set_bool": "onnxruntime refuses it",
    "test_convinteger_with_padding": "onnxruntime refuses it",
}
RANDOM = ("test_bernoulli", "test_training_dropout", "test_random")
IMPRECISE = ("test_dft", "test_stft")
"""onnxruntime's transforms are float32 sums over powers of a rounded root of unity: 1e-5 relative is all they give."""

NEWER = frozenset({"Scan", "BitCast", "BitShift", "CumProd", "TensorScatter", "Mod"})
"""Operators refused because opset 21 cannot say them, nor their body; Mod with fmod=0 on floats, BitShift on signed;
and Scan in the form that opset 8 alone had."""

NEWER_TYPES = ("INT2", "UINT2", "FLOAT4E2M1", "FLOAT8E8M0", "BFLOAT16")


def _cases() -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in load_model_tests(kind="node") if _fits(case)]


def _fits(case: Any) -> bool:
    """Default domain, tensors, and arrays that numpy can hold without another package."""
    graph = case.model.graph
    values = [*graph.input, *graph.output]
    return all(node.domain in ("", "ai.onnx") for node in graph.node) and all(
        value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in NUMPY_TYPES for value in values
    )


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    return _cases()


@pytest.mark.slow
@pytest.mark.parametrize("kept", [None, 1, 0], ids=["as-published", "baked", "all-constant"])
def test_backend_node_tests(cases: list[Any], kept: int | None) -> None:
    failures, refused, without_kernel, equal = [], [], [], 0
    for case in cases:
        if case.name.startswith(RANDOM) or case.name in OWN:
            continue
        model, feeds, expected = _baked(case, kept)
        if model is None:
            continue
        try:
            hub = to_hub(ir.from_proto(model))
        except UnsupportedError as error:
            refused.append((case.name, error))
            continue
        names = [value.name for value in model.graph.output]
        if [v.name for v in hub.graph.outputs] != names or [v.name for v in hub.graph.inputs] != list(feeds):
            failures.append(f"{case.name}: other inputs or outputs")
            continue
        try:
            evaluator = Evaluator(hub)
        except UnsupportedError:
            # onnxruntime's kernels do not cover every type; that must not be the hub's doing.
            without_kernel.append(case.name)
            if _loads(model):
                failures.append(f"{case.name}: onnxruntime takes the source, not the hub graph")
            continue
        try:
            actual = evaluator.run(feeds)
        except Exception as error:
            failures.append(f"{case.name}: {str(error)[:200]}")
            continue
        rtol, atol = (1e-3, 1e-3) if case.name.startswith(IMPRECISE) else (case.rtol, max(case.atol, 1e-6))
        problems = [p for n, e in zip(names, expected, strict=True) if (p := _difference(actual[n], e, rtol, atol))]
        failures += [f"{case.name}: {problem}" for problem in problems]
        equal += not problems
    assert not failures, "\n".join(failures)
    # Refusals are few, and each for a stated reason: types and operators newer than the pinned opset.
    for name, error in refused:
        for blocker in error.blockers:
            assert blocker.op in NEWER or any(kind in blocker.reason for kind in NEWER_TYPES), (name, str(blocker))
    total = equal + len(refused) + len(without_kernel)
    assert len(refused) + len(without_kernel) <= 0.07 * total, (len(refused), len(without_kernel), total)
    assert equal >= {None: 1250, 1: 1000, 0: 1250}[kept]


def _baked(case: Any, kept: int | None) -> tuple[Any, dict[str, np.ndarray], list[Any]]:
    inputs, expected = case.data_sets[0]
    model = case.model
    values = list(model.graph.input)
    if kept is None:
        return model, {v.name: _array(a) for v, a in zip(values, inputs, strict=True)}, expected
    if len(values) <= kept or model.ir_version < 4:
        return None, {}, []
    model = copy.deepcopy(model)
    for value, array in list(zip(values, inputs, strict=True))[kept:]:
        model.graph.initializer.append(numpy_helper.from_array(_array(array), value.name))
    del model.graph.input[kept:]
    return model, {v.name: _array(a) for v, a in list(zip(values, inputs, strict=True))[:kept]}, expected


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _loads(model: Any) -> bool:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def _difference(actual: np.ndarray, expected: Any, rtol: float, atol: float) -> str:
    expected = _array(expected)
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{actual.shape} for {expected.dtype}{expected.shape}"
    if expected.dtype.kind in "fc":
        equal = np.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
        return "" if equal else f"differs by up to {np.nanmax(np.abs(actual - expected))}"
    return "" if np.array_equal(actual, expected) else "other integers"


def test_pinned_opset_is_what_the_graph_says(cases: list[Any]) -> None:
    for case in cases[::200]:
        hub = to_hub(ir.from_proto(case.model))
        assert hub.opset_imports[""] == OPSET
        onnx.checker.check_model(ir.to_proto(hub), full_check=True)
