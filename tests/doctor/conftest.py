"""Real small models with known failures planted in them, and a way to build models of a few nodes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "demo" / "haversack" / "demo" / "digits"

if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # `benchmarks`, which plants the failures

Write = Callable[..., Path]


@dataclass(frozen=True)
class Case:
    """A model and its data."""

    model: Path
    calibration: Path
    evaluation: Path


@pytest.fixture(scope="session")
def digits() -> Case:
    return Case(DIGITS / "digits.onnx", DIGITS / "calibration.npz", DIGITS / "evaluation.npz")


@pytest.fixture(scope="session")
def outlier(digits: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Digits, channel 3 of whose first convolution is a hundred times larger."""
    from benchmarks import planted

    path = tmp_path_factory.mktemp("outlier") / "outlier.onnx"
    onnx.save(planted.outlier_channel(onnx.load(digits.model), "Conv", "Conv_1", 3), path)
    return Case(path, digits.calibration, digits.evaluation)


@pytest.fixture(scope="session")
def concat(digits: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Digits, whose first convolution is two, one of them a thousand times larger, joined by a Concat."""
    from benchmarks import planted

    path = tmp_path_factory.mktemp("concat") / "concat.onnx"
    onnx.save(planted.unlike_concat(onnx.load(digits.model), "Conv", "Conv_1"), path)
    return Case(path, digits.calibration, digits.evaluation)


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A trained detection head that gives boxes and scores as one tensor."""
    pytest.importorskip("sklearn", reason="the detector learns scikit-learn's digits")
    from benchmarks import planted

    return Case(*planted.detector_files(tmp_path_factory.mktemp("detector")))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model of a few nodes: (op, inputs, output, attributes), arrays as initializers."""

    def make(nodes, inputs, outputs, **arrays) -> Path:
        made = [
            helper.make_node(op, list(ins), [out], name=f"{op.lower()}_{out}", **(attrs or {}))
            for op, ins, out, attrs in nodes
        ]
        graph = helper.make_graph(
            made,
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model)
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return make
