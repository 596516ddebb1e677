"""Bundles for the dashboard's tests, packed here from the digits model."""

from __future__ import annotations

from pathlib import Path

import pytest

from haversack.convert import pack

DIGITS = Path(__file__).resolve().parents[2] / "demo" / "haversack" / "demo" / "digits"


@pytest.fixture(scope="session")
def digits() -> Path:
    """The folder of the quickstart's model and data."""
    return DIGITS


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model for TFLite, Core ML and ONNX Runtime, float32 and int8, measured on its evaluation data."""
    path = tmp_path_factory.mktemp("packed") / "digits.haversack"
    pack(
        DIGITS / "digits.onnx",
        to=("tflite", "coreml", "onnx"),
        recipes=("fp32", "int8"),
        calibration=str(DIGITS / "calibration.npz"),
        evaluation=str(DIGITS / "evaluation.npz"),
        output=path,
    )
    return path


@pytest.fixture(scope="session")
def unverified_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose one variant nobody executed."""
    path = tmp_path_factory.mktemp("packed") / "unverified.haversack"
    pack(DIGITS / "digits.onnx", to=("tflite",), recipes=("fp32",), output=path, verify=False)
    return path
