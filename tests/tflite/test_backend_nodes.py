"""ONNX's own backend node tests: what the target lowers must compute what they say; the rest must be refused up front.

Shapes, axes, scales and weights, which the generated tests feed at run time, are made initializers as in real models.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub.load import to_hub
from haversack.convert.targets import Options
from haversack.convert.targets.tflite import TARGET

BAKED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(["Clip", "Conv", "ConvTranspose", "Dropout", "Gemm", "GroupNormalization"], (1, 2)),
    **dict.fromkeys(["DequantizeLinear", "InstanceNormalization", "LayerNormalization", "OneHot"], (1, 2)),
    **dict.fromkeys(
        ["CenterCropPad", "CumSum", "Expand", "PRelu", "Reshape", "Split", "Squeeze", "Tile", "TopK"], (1,)
    ),
    **dict.fromkeys(["Trilu", "Unsqueeze", "Upsample"], (1,)),
    **dict.fromkeys(["BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow"], (0,)),
    "BatchNormalization": (1, 2, 3, 4),
    "Pad": (1, 2, 3),
    "QuantizeLinear": (1, 2),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
}
"""Positions of inputs that are made initializers; of every Reduce operator, the axes."""

EXCLUDED = {
    "test_resize_downsample_scales_linear_align_corners": "expects a fractional output size; onnxruntime, like the "
    "target, takes the size of the output (it excludes this test too)",
}

ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 0.5e-4 * (1 + 4 / 9)}
"""Cases written with four decimals: half of the last one's unit for the expectation, and for the four inputs it is
the sum of, divided by nine."""

XNNPACK_ONLY = {
    # LiteRT's own ADD clamps to ±max of float32 even without an activation, so an infinite mask is finite after it.
    "test_attention_4d_causal_nonpad_negative_offset_structural_empty",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
    "test_attention_causal_boolmask_nan_robustness",
    "test_attention_local_window_gqa_rank4_mask",
    "test_mod_float_edge_cases_fmod_0_float32",
    "test_mod_float_edge_cases_fmod_0_float64",
}

PASSES = 1340
"""At least as many pass. Of the 1,884 cases 378 hold no tensors that a TFLite file can (strings, sequences, float8)."""


def baked(case: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray], list[np.ndarray]]:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    arrays, expected = case.data_sets[0]
    chosen = {
        name
        for node in model.graph.node
        for n, name in enumerate(node.input)
        if n in BAKED.get(node.op_type, ()) or (node.op_type.startswith("Reduce") and n == 1)
    }
    kept, feeds = [], {}
    for info, array in zip(model.graph.input, arrays, strict=False):
        if info.name in chosen and isinstance(array, np.ndarray):
            model.graph.initializer.append(numpy_helper.from_array(array, info.name))
        else:
            kept.append(info)
            feeds[info.name] = array
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model, feeds, expected


def differs(found: np.ndarray, expected: np.ndarray, rounded: float = 0.0) -> str | None:
    """Why they differ; floats to 1e-5 of the largest magnitude (2e-3 in float16) and `rounded`, integers exactly."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{found.dtype}{found.shape} for {expected.dtype}{expected.shape}"
    if expected.dtype.kind in "biu":
        return None if np.array_equal(found, expected) else "integers differ"
    limit = 2e-3 if expected.dtype == np.float16 else 1e-5
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(np.isnan(expected), np.isnan(found)) or not np.array_equal(np.isfinite(found), finite):
        return "NaN or infinity elsewhere"
    if not finite.any():
        return None
    worst = (np.abs(expected[finite] - found[finite]).max() - rounded) / max(np.abs(expected[finite]).max(), 1e-6)
    return f"off by {worst:.1e}" if worst > limit else None


def outcome(case: Any, path: Path, run: Any) -> str:
    model, feeds, expected = baked(case)
    if not all(isinstance(array, np.ndarray) for array in (*feeds.values(), *expected)):
        return "no tensors"
    try:
        TARGET.write(to_hub(ir.from_proto(model)), "fp32", path, Options())
    except UnsupportedError:
        return "refused"
    data = path.read_bytes()
    names = [info.name for info in model.graph.output]
    for xnnpack in (True, False):
        if not xnnpack and case.name.removesuffix("_expanded") in XNNPACK_ONLY:
            continue
        found = run(data, feeds, xnnpack)
        for name, array in zip(names, expected, strict=True):
            if (reason := differs(found[name], array, ROUNDED.get(case.name, 0.0))) is not None:
                return f"wrong: {name} {reason}, XNNPACK {xnnpack}"
    return "right"


@pytest.mark.slow
def test_backend_nodes(tmp_path: Path, run: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow and divide by zero on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    results = {}
    for case in cases:
        if case.name not in EXCLUDED:
            try:
                results[case.name] = outcome(case, tmp_path / "m.tflite", run)
            except Exception as error:  # every failure belongs in the list below
                results[case.name] = f"wrong: {type(error).__name__}: {error}"
    wrong = {name: result for name, result in results.items() if result.startswith("wrong")}
    assert not wrong, "\n".join(f"{name}: {result}" for name, result in wrong.items())
    assert Counter(results.values())["right"] >= PASSES
