"""Whole MLPerf Tiny models: each layer against the hub, bytes against TFLiteConverter's files, no transpose."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.hub.shapes import bind_batch
from haversack.convert.sources import read

MODELS = ["resnet8_float32", "vww_96_float32", "ad01_float32"]


def opened(folder: Path, name: str, random: np.random.Generator) -> tuple[Any, list[dict[str, np.ndarray]]]:
    model = bind_batch(read(folder / "mlperf_tiny" / f"{name}.tflite").model)
    [value] = model.graph.inputs
    assert value.shape is not None
    shape = value.shape.numpy()
    if name.startswith("resnet8"):  # raw pixels
        return model, [{str(value.name): random.integers(0, 256, shape).astype(np.float32)} for _ in range(4)]
    return model, [{str(value.name): random.standard_normal(shape).astype(np.float32)} for _ in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fp32", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_each_layer(name: str, recipe: str, shared_data: Path, bench: Any, random: np.random.Generator) -> None:
    model, feeds = opened(shared_data, name, random)
    compressed = compress(model, Recipe(recipe), feeds).model
    written = bench.layers_agree(compressed, feeds[0], recipe, lsb=1)
    assert not [note for note in written.notes if "runs in float32" in note or "transposed" in note]
    assert "TRANSPOSE" not in {layer.op for layer in written.layers}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_no_more_bytes_than_the_reference_file(
    name: str, shared_data: Path, bench: Any, random: np.random.Generator
) -> None:
    model, feeds = opened(shared_data, name, random)
    folder = shared_data / "mlperf_tiny"
    bench.write(model)
    assert len(bench.data) <= (folder / f"{name}.tflite").stat().st_size
    # The reference's convolutions are per channel, its dense layers per tensor (ad01 has nothing else).
    compressed = compress(
        model, Recipe("int8", weights="per-tensor" if name.startswith("ad01") else "per-channel"), feeds
    )
    bench.write(compressed.model, "int8", io_dtype="int8")
    assert len(bench.data) <= (folder / f"{name.replace('float32', 'int8')}.tflite").stat().st_size


@pytest.mark.slow
def test_lowering_is_quick(shared_data: Path, bench: Any, random: np.random.Generator) -> None:
    """ResNet8, imports aside, in at most 0.3 CPU-s."""
    model, _ = opened(shared_data, "resnet8_float32", random)
    bench.write(model)
    start = time.process_time()
    bench.write(model)
    assert time.process_time() - start < 0.3
