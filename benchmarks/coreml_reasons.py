"""Why a test of coremltools fails though the evaluator computes what the program says.

Two kinds. `REASONS` are tests that state a wrong number or contradict one another. The other kind are float32
configurations of tests that put float16 into the program, and compare with 1e-4 what is rounded to 5e-4; there the
reason is found by running the program again with every float16 declared float32:

    rounding           that meets the test's tolerance: nothing but the rounding that the program declares is at fault
    test's float16     it does not, but the test expects what it computed in float16, or before rounding weights and
                       inputs to float16, and the result lies within what such a rounding changes
    unexplained        neither
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from haversack.runtimes.engines.coreml import Evaluator
from haversack.runtimes.engines.coreml.program import Constant, ValueType

Feeds = Mapping[str, Any]

# (Folder and test class, test) -> reason.
REASONS: dict[tuple[str, str], str] = {
    ("iOS14/TestNormalizationLocalResponseNorm", "test_builder_to_backend_smoke"): (
        "the numbers stated for size 2 leave the neighbour out, which PyTorch's in the stress test of the same op hold"
    ),
    ("iOS15/TestCropResize", "test_builder_to_backend_smoke"): (
        "a box wholly outside the image, for which the numbers of the whole image are stated; the evaluator pads"
    ),
    ("iOS16/TestCropResize", "test_builder_to_backend_ios16"): (
        "states 7.899 where x + 4 y + 1, the image sampled, is 7.9 at x = 0.9, y = 1.5"
    ),
    ("iOS17/TestCropResize", "test_builder_to_backend_ios17"): (
        "states 7.899 where x + 4 y + 1, the image sampled, is 7.9 at x = 0.9, y = 1.5"
    ),
    ("iOS15/TestResample", "test_builder_to_backend_smoke"): (
        "the numbers agree; the test then wants two casts in coremltools' program, which has them in float16 only"
    ),
    ("iOS17/TestScatter", "test_ios17_invalid_indices"): (
        "an index out of range, unvalidated: by the test itself undefined, and some wrong numbers are wanted; the "
        "evaluator gives an error"
    ),
}

# Float16 keeps 11 bits: its unit in the last place is at most this part of a value.
UNIT = 2.0**-10
PROBES = 8


def float16_reason(
    evaluator: Evaluator, prepare: Callable[[Evaluator], Feeds], name: str, desired: Any, rtol: float, atol: float
) -> str:
    """Say why an output of a program with float16 values differs from what its test expects.

    Args:
        evaluator: The program; not a stateful one.
        prepare: Gives the feeds, in the dtypes that an evaluator's program declares.
        name: The output.
        desired: What the test expects.
        rtol: The test's relative tolerance.
        atol: Its absolute tolerance.
    """
    expected = np.asarray(desired, np.float64)

    def run(rng: np.random.Generator | None) -> Any:
        wide = Evaluator(replace(evaluator.program, functions=widened(evaluator.program.functions, rng)))
        half = {item.name for item in evaluator.function.inputs if item.type.dtype == "float16"}
        feeds = {key: jittered(v, rng) if rng and key in half else v for key, v in prepare(wide).items()}
        return np.asarray(wide.run(feeds)[name], np.float64)

    exact = run(None)
    exact = exact.reshape(expected.shape) if exact.size == expected.size else exact
    if exact.shape != expected.shape:
        return "unexplained"
    if np.allclose(exact, expected, rtol=rtol, atol=atol):
        return "rounding"
    rng = np.random.default_rng(0)
    spread = max(np.abs(run(rng).reshape(expected.shape) - exact).max() for _ in range(PROBES))
    # Two units for the arithmetic of the test. Its rounding of inputs is one more draw of what the probes draw.
    allowed = 2 * UNIT * max(1.0, np.abs(expected).max()) + 2 * spread
    return "test's float16" if np.abs(exact - expected).max() <= allowed else "unexplained"


def widened(value: Any, rng: np.random.Generator | None = None) -> Any:
    """Declare float32 wherever a part of a program declares float16; with `rng`, constants in float16 are jittered."""
    if isinstance(value, ValueType):
        return replace(value, dtype="float32") if value.dtype == "float16" else value
    if isinstance(value, Constant):
        half = rng is not None and isinstance(value.value, np.ndarray) and value.value.dtype == np.float16
        return replace(value, value=jittered(value.value, rng)) if half and rng is not None else value
    if isinstance(value, dict):
        return {key: widened(item, rng) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(widened(item, rng) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: widened(getattr(value, item.name), rng) for item in fields(value)})
    return value


def jittered(value: Any, rng: np.random.Generator) -> Any:
    """Move every element by at most the half unit that rounding to float16 may have moved it; float32."""
    wide = np.asarray(value, np.float32)
    return (wide * (1 + rng.uniform(-UNIT / 2, UNIT / 2, wide.shape))).astype(np.float32)
