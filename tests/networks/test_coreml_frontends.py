"""Packages that coremltools makes from PyTorch by itself, run by the evaluator, against PyTorch.

`python -m benchmarks.coreml_frontends` does the same with more networks, and with Keras.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPREAD = 0.1
"""A comparison proves something where the output's standard deviation is above this share of its mean magnitude."""


def evaluated(folder: Path, *networks: str) -> dict[tuple[str, str, str], dict[str, object]]:
    """What the benchmark measured, in a process of its own: coremltools finds the frameworks only when it starts."""
    told = folder / "results.json"
    chosen = [word for network in networks for word in ("--network", network)]
    command = [sys.executable, "-m", "benchmarks.coreml_frontends", "--json", str(told), *chosen]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {(each["network"], each["frontend"], each["precision"]): each for each in json.loads(told.read_text())}


def held(found: dict[tuple[str, str, str], dict[str, object]]) -> None:
    """Assert that every package is within its precision's rounding (`verify/contract.py`) of an output that varies."""
    for key, each in found.items():
        assert each["error"] is not None, (key, each["said"])
        assert each["error"] <= {"FLOAT32": 1e-4, "FLOAT16": 1e-2}[key[2]], key
        assert each["spread"] > SPREAD, key


@pytest.mark.slow
def test_from_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install haversack[torch]")
    found = evaluated(tmp_path, "own attention", "U-Net", "LSTM and GRU tagger")
    mine = {key: each for key, each in found.items() if not each["theirs"]}
    assert {key[:2] for key in mine} == {
        ("own attention", "torch.export"),
        ("U-Net", "traced"),
        ("LSTM and GRU tagger", "traced"),
    }
    held(mine)
