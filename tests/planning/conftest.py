"""The digits model as a hub graph, with its calibration and evaluation data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from haversack.convert.compress.mixed import Observed, observe_model
from haversack.convert.work import Work

DIGITS = Path(__file__).resolve().parents[2] / "demo" / "haversack" / "demo" / "digits"


@pytest.fixture(scope="session")
def folder() -> Path:
    """The folder of the digits model."""
    return DIGITS


@pytest.fixture(scope="session")
def model() -> ir.Model:
    """Its hub graph, batch 1."""
    return Work.begin(DIGITS / "digits.onnx").sized


@pytest.fixture(scope="session")
def samples() -> list[dict[str, np.ndarray]]:
    """Its calibration samples."""
    with np.load(DIGITS / "calibration.npz") as data:
        (name,) = [key for key in data.files if key != "label"]
        return [{name: row[None]} for row in data[name]]


@pytest.fixture(scope="session")
def observed(model: ir.Model, samples: list[dict[str, np.ndarray]]) -> Observed:
    """What they say of it."""
    return observe_model(model, lambda: iter(samples))
