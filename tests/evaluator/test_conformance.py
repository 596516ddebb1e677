"""A fixed sample of coremltools' own op tests, run by the benchmark with the evaluator in Core ML's place."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.runtimes.engines.coreml import Evaluator, read_package

ROOT = Path(__file__).resolve().parents[2]


def conformance(tmp_path: Path, *arguments: str) -> dict[str, dict[str, int]]:
    """Run the benchmark in a fresh process (it changes coremltools) and return its totals."""
    totals = tmp_path / "totals.json"
    command = [sys.executable, "-m", "benchmarks.coreml_conformance", *arguments, "--json", str(totals)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT)
    assert totals.exists(), done.stdout + done.stderr
    print(done.stdout)
    found: dict[str, dict[str, int]] = json.loads(totals.read_text())
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("coremltools")
def test_a_fixed_sample_passes_in_float32(tmp_path: Path) -> None:
    totals = conformance(tmp_path, "--precision", "fp32", "--shard", "7/60")
    # Fewer calls would mean that the harness no longer reaches the evaluator. Without PyTorch half of the tests do not
    # call it.
    torch = importlib.util.find_spec("torch") is not None
    assert totals["total fp32"]["called"] >= (150 if torch else 40)
    assert totals["total fp32"].get("failed", 0) == 0
    assert totals["total"].get("unexplained", 0) == 0


@pytest.fixture(scope="module")
def float16_reason() -> Callable[..., str]:
    spec = importlib.util.spec_from_file_location("coreml_reasons", ROOT / "benchmarks" / "coreml_reasons.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., str] = module.float16_reason
    return found


def test_a_reason_is_found_only_where_float16_explains_it(
    save: Callable[..., Path], float16_reason: Callable[..., str]
) -> None:
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((4, 64)), rng.standard_normal((8, 64))
    feeds = {"x": x.astype(np.float16)}

    def body(mb: Any, x: Any) -> Any:
        return mb.linear(x=x, weight=weight.astype(np.float16), name="y")

    evaluator = Evaluator(read_package(save(body, feeds)))

    def reason(desired: np.ndarray) -> str:
        def prepare(wide: Evaluator) -> dict[str, np.ndarray]:
            return {item.name: feeds[item.name].astype(item.type.storage) for item in wide.function.inputs}

        return float16_reason(evaluator, prepare, "y", desired, 1e-5, 1e-4)

    rounded = feeds["x"].astype(np.float64) @ weight.astype(np.float16).astype(np.float64).T
    assert reason(rounded) == "rounding"
    assert reason(x @ weight.T) == "test's float16"
    # A sum of 64 products of rounded values is off by some 0.01; a wrong weight is not explained by that.
    wrong = weight.copy()
    wrong[0, 0] += 0.5
    assert reason(x @ wrong.T) == "unexplained"
    assert reason(np.zeros((4, 8))) == "unexplained"
