"""A few hundred images through a small convolutional network take the evaluator seconds."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from haversack.convert import convert
from haversack.runtimes.engines import open_engine
from haversack.runtimes.engines.coreml import EvaluatorEngine

IMAGES = 300


@pytest.mark.slow
@pytest.mark.usefixtures("coremltools")
# float16 rounds some 20 times on the way, each time by at most 2 ** -11: logits of up to 20 are off by at most 0.2, and
# the slope of a softmax is at most 1/4. float32 rounds by 2 ** -24, so 1e-4 leaves room for the order of its sums.
@pytest.mark.parametrize(("recipe", "tolerance"), [("fp32", 1e-4), ("fp16", 0.05)])
def test_resnet8(shared_data: Path, tmp_path: Path, recipe: str, tolerance: float) -> None:
    source = shared_data / "mlperf_tiny" / "resnet8_float32.tflite"
    convert(source, to="coreml", output=tmp_path / "resnet8.mlpackage", compress=recipe, verify=False)
    engine, reference = EvaluatorEngine(tmp_path / "resnet8.mlpackage"), open_engine(source)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 32, 32, 3)).astype(np.float32)
    (name,), (output,) = ([spec.name for spec in specs] for specs in (engine.inputs, engine.outputs))
    start = time.process_time()
    found = np.concatenate([engine.run({name: image})[output] for image in images])
    seconds = time.process_time() - start
    wanted = np.concatenate([next(iter(reference.run({name: image}).values())) for image in images])
    print(f"{recipe}: {IMAGES} images in {seconds:.2f} CPU-s, max difference {np.abs(found - wanted).max():.1e}")
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    # A minute is what a user may wait for. It takes about one CPU second; a loop over pixels takes many minutes.
    assert seconds < 20
