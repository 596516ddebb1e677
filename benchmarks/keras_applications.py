"""Networks of `keras.applications` through the TFLite target, beside TensorFlow's own converter.

    python -m benchmarks.keras_applications                    all of them, about fifteen minutes on two cores
    python -m benchmarks.keras_applications --model MobileNetV2
    python -m benchmarks.keras_applications --write docs/results.md

Weights are random (seeded), normalisation statistics are randomised and the classifier has no softmax: a uniform
softmax would agree with anything. `spread` is the output's standard deviation over its mean magnitude; below 0.1 the
comparison would prove nothing. The error is relative, against the Keras model, by a verified conversion. Latency is one
thread, both files interleaved, as ours over theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.latency import interleaved
from benchmarks.marks import write_between_marks
from benchmarks.mlperf_tiny import transposes
from haversack.convert import convert
from haversack.convert.sources import read
from haversack.runtimes.engines import Array, open_engine
from haversack.runtimes.errors import HaversackError

NAMES = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ResNet50V2",
    "DenseNet121",
    "NASNetMobile",
    "ConvNeXtTiny",
    "Xception",
    "InceptionV3",
)
SAMPLES = 4


def build(name: str) -> Any:
    """The network with seeded weights and statistics."""
    import keras

    keras.utils.set_random_seed(0)
    edge = 299 if name in ("Xception", "InceptionV3") else 224
    network = getattr(keras.applications, name)
    model = network(weights=None, classifier_activation=None, input_shape=(edge, edge, 3))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            center, scale = rng.normal(0, 0.1, layer.moving_mean.shape), rng.uniform(0.5, 1.5, layer.moving_mean.shape)
            layer.moving_mean.assign(center)
            layer.moving_variance.assign(scale)
            if layer.beta is not None:
                layer.beta.assign(rng.normal(0, 0.1, layer.beta.shape))
    return model


@dataclass(frozen=True)
class Exported:
    """One network as files.

    Attributes:
        keras: As Keras saved it.
        onnx: The hub graph that was read from it.
        inputs: Seeded images by the input's name, [samples, height, width, 3].
        reading: CPU seconds that reading it took.
    """

    keras: Path
    onnx: Path
    inputs: dict[str, Array]
    reading: float


def export(name: str, folder: Path) -> Exported:
    """Build a network, save it and read it into the hub.

    Raises:
        SourceError: It cannot be read.
    """
    import onnx_ir as ir

    model = build(name)
    saved, exported = folder / f"{name}.keras", folder / f"{name}.onnx"
    model.save(saved)
    size = [int(edge) for edge in model.input_shape[1:]]
    images = np.random.default_rng(1).uniform(0, 1, (SAMPLES, *size)).astype(np.float32)
    start = time.process_time()
    source = read(saved)
    reading = time.process_time() - start
    ir.save(source.model, exported)
    (value,) = source.model.graph.inputs
    return Exported(saved, exported, {str(value.name): images}, reading)


def row(name: str, folder: Path) -> str:
    """One line of the table."""
    own, theirs = folder / f"{name}.tflite", folder / f"{name}-peer.tflite"
    try:
        exported = export(name, folder)
    except HaversackError as error:
        return f"| {name} | **failed**: {error} |"
    (images,) = exported.inputs.values()
    start = time.process_time()
    convert(exported.onnx, to="tflite", output=own, verify=False)
    converting = time.process_time() - start
    try:
        made = convert(exported.keras, to="tflite", output=own, inputs=exported.inputs, force=True)
    except HaversackError as error:
        return f"| {name} | **failed**: {error} |"
    with contextlib.redirect_stdout(sys.stderr):
        theirs.write_bytes(peers.tflite_converter(exported.keras))
    # Each file twice, ours first and last: where a model lies in memory is worth 2 % by itself.
    order = {"own": own, "peer": theirs, "peer again": theirs, "own again": own}
    engines = {key: open_engine(path) for key, path in order.items()}
    calls = {
        key: (lambda engine=engine: engine.run({engine.inputs[0].name: images[:1]})) for key, engine in engines.items()
    }
    outputs = np.concatenate(
        [next(iter(engines["own"].run({engines["own"].inputs[0].name: image[None]}).values())) for image in images]
    )
    spread = float(outputs.std() / np.abs(outputs).mean())
    taken = interleaved(calls, "peer", rounds=30, seconds=0.15)
    ratios = (taken["own"].rounds + taken["own again"].rounds) / (taken["peer"].rounds + taken["peer again"].rounds)
    low, time_ratio, high = np.percentile(ratios, [5, 50, 95])
    error = max(output.max_relative for output in made.variant.verification.outputs)
    return (
        f"| {name} | {error:.1e} | {spread:.2f} | {transposes(own)} / {transposes(theirs)} "
        f"| {own.stat().st_size:,} / {theirs.stat().st_size:,} | {time_ratio:.3f} ({low:.3f}–{high:.3f}) "
        f"| {exported.reading:.1f} + {converting:.2f} |"
    )


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NAMES, action="append")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks in FILE")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    asked = parser.parse_args()
    lines = [
        "| network | error | spread | TRANSPOSE ours / theirs | bytes ours / theirs | latency (5–95 %) "
        "| CPU, s: read + convert |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    print(*lines, sep="\n")
    for name in asked.model or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row(name, Path(folder)))
        print(lines[-1], flush=True)
    if asked.write:
        write_between_marks(asked.write, "\n".join(lines) + "\n", "keras-applications")


if __name__ == "__main__":
    main()
