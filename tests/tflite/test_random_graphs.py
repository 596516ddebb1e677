"""Random graphs of every family of operators compute after conversion what onnxruntime computes.

`HAVERSACK_RANDOM_GRAPHS=5000` draws so many instead of the few of a normal run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graph_moves
import graph_operators
import graph_spatial
import graph_strategies as strategies
import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub.load import to_hub
from haversack.convert.targets import Options
from haversack.convert.targets.tflite import TARGET

Array = np.ndarray[Any, np.dtype[Any]]


FORMS = (*graph_operators.FORMS, *graph_moves.MOVES, *graph_spatial.SPATIAL_FORMS)

USUAL = 60
EXAMPLES = int(os.environ.get("HAVERSACK_RANDOM_GRAPHS", USUAL))
REFUSALS = 0.1
"""The share of graphs that may be refused; with more the law would say little."""

RTOL, ATOL = 1e-3, 1e-4
HALF = 2.0**-11 * 16
"""Relative error of a float16 result: half an ulp (2**-11) for each of up to four roundings on either side, times two
for what the functions here enlarge it by."""


OPSETS = (21, 18, 23, 17, 13, 22, 20, 19, 16, 15, 14, 12, 11, 10, 9, 8, 7)


def sketch(number: Callable[[int, int], int]) -> Any:
    """A graph of 3 to 25 nodes at one of the opsets that sources come in."""
    drawn = strategies.Sketch(number, OPSETS[number(0, len(OPSETS) - 1)])
    wanted = drawn.integer(3, 25)
    for _ in range(3 * wanted):  # some are dropped
        if len(drawn.nodes) >= wanted:
            break
        drawn.one_of(FORMS)(drawn)
    if not drawn.nodes:
        drawn.node("Identity", drawn.leaf("float32", (2,), constant=False))
    return drawn.finish()


@st.composite
def graphs(draw: Any) -> Any:
    """What `sketch` gives, drawn by hypothesis, so that a failure is made small."""
    return sketch(lambda low, high: draw(st.integers(low, high)))


def run(data: bytes, feeds: dict[str, Array], names: list[str], xnnpack: bool) -> list[Array]:
    """Outputs in the file's order; inputs and outputs must have the model's names, types, shapes and order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    rows = interpreter.get_input_details()
    assert [row["name"] for row in rows] == list(feeds)
    for row, array in zip(rows, feeds.values(), strict=True):
        assert (row["dtype"], tuple(row["shape"])) == (array.dtype, array.shape)
        interpreter.set_tensor(row["index"], array)
    interpreter.invoke()
    found = [interpreter.get_tensor(row["index"]) for row in interpreter.get_output_details()]
    by_name = interpreter.get_signature_runner("serving_default")(**feeds)
    for name, array in zip(names, found, strict=True):
        np.testing.assert_array_equal(array, by_name[name], err_msg=f"{name} by name")
    return found


def check(found: Array, value: Any, what: str) -> None:
    """Types and shapes equal, integers and exact numbers exactly, others to their tolerance."""
    expected = value.array
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), what
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected, err_msg=what)
        return
    peak = max(1.0, float(np.abs(expected).max(initial=0)))
    rtol, atol = (HALF, HALF * peak) if value.halves else (RTOL, ATOL * peak)
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol, atol, err_msg=what)


def convert(model: onnx.ModelProto, path: Path) -> None:
    """The conversion of `haversack.convert.convert`, with neither files between nor verification."""
    TARGET.write(to_hub(ir.from_proto(model)), "fp32", path, Options())


def test_random_graphs_agree_with_onnxruntime(tmp_path: Path) -> None:
    """A refusal is right too, if it is rare."""
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()

    @given(graphs())
    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES <= USUAL,  # a run of the tests is to depend on nothing but the code
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def law(drawn: Any) -> None:
        counts["drawn"] += 1
        path = tmp_path / "m.tflite"
        path.unlink(missing_ok=True)
        try:
            convert(drawn.model, path)
        except UnsupportedError as error:
            if path.exists() or any("defect" in blocker.remedy for blocker in error.blockers):
                raise
            counts["refused"] += 1
            refused.update(sorted({f"{b.op}: {b.reason}" for b in error.blockers}))
            return
        names = [value.name for value in drawn.outputs]
        for xnnpack in (True, False):
            for found, value in zip(run(path.read_bytes(), drawn.feeds, names, xnnpack), drawn.outputs, strict=True):
                check(found, value, f"{value.name}, XNNPACK {xnnpack}")

    law()
    assert counts["refused"] <= REFUSALS * counts["drawn"], refused.most_common(5)
