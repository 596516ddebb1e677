"""A fixed sample of coremltools' own op tests, run by the benchmark with the evaluator in Core ML's place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def conformance(tmp_path: Path, *arguments: str) -> dict[str, dict[str, int]]:
    """Run the benchmark in a fresh process (it changes coremltools) and return its totals."""
    totals = tmp_path / "totals.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "coreml_conformance.py"), *arguments, "--json", str(totals)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert totals.exists(), done.stdout + done.stderr
    print(done.stdout)
    found: dict[str, dict[str, int]] = json.loads(totals.read_text())
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("coremltools")
def test_a_fixed_sample_passes_in_float32(tmp_path: Path) -> None:
    totals = conformance(tmp_path, "--precision", "fp32", "--shard", "7/60")["total fp32"]
    # Fewer calls would mean that the harness no longer reaches the evaluator. (PyTorch's tests do not call it.)
    assert totals["called"] >= 40
    assert totals.get("failed", 0) == 0
