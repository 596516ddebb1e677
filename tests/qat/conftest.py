"""The user's training program in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from haversack.convert.compress.mixed import apply_plan, observe_model
from haversack.convert.compress.plan import Plan
from haversack.convert.work import Work

Integers = dict[str, np.ndarray]


def needs(module: str) -> None:
    """Skip where a framework is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def program(name: str, *words: object) -> None:
    """Run one of the programs beside this file; the folder it works in, with `qat.py`, is importable."""
    folder = str(words[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(Path(__file__).with_name(name)), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def converted(path: Path, plan: Plan, inputs: np.ndarray) -> Integers:
    """The integers that a model's layers get by a plan, by the layer's node."""
    model = Work.begin(path).sized
    (name,) = [str(value.name) for value in model.graph.inputs]
    observed = observe_model(model, lambda: iter([{name: row[None]} for row in inputs]))
    made = apply_plan(model, plan, observed)[0]
    return {str(node.name): found for node in made.graph if (found := _integers(node)) is not None}


def _integers(node: ir.Node) -> np.ndarray | None:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return None
    held = producer.inputs[0]
    return None if held is None or held.const_value is None else held.const_value.numpy().astype(np.int8)


def distinct(rows: np.ndarray) -> int:
    """The most different values in any row."""
    return max(len(np.unique(row)) for row in rows)


def read(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path) as said:
        return dict(said)
