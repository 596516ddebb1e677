"""Fixtures that every part's tests share."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

sys.path.append(str(Path(__file__).parent))  # the modules beside this, as mixed_weights


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data beside the checkout; it is not shipped, so it may be absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder shared/data (MLPerf Tiny models and evaluation sets) is not beside this checkout")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _settled() -> None:
    """Leave what earlier modules imported out of garbage collection.

    coremltools collects garbage at each conversion: behind TensorFlow, PyTorch and scikit-learn that is seconds each.
    """
    gc.freeze()
