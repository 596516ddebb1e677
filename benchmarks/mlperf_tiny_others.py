"""The other MLPerf Tiny models, from Keras and from TFLite, on every target.

    python -m benchmarks.mlperf_tiny_others
    python -m benchmarks.mlperf_tiny_others --write docs/results.md

Each is converted and verified (a failure ends the run). Float: the largest relative error of an output against the
source. int8: signal-to-noise against the float source, in dB. sww runs on its own calibration inputs (one half
calibrates, the other verifies); for vww_96 and ad01 there is no data, so seeded inputs stand in for both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.marks import write_between_marks
from haversack.convert import convert
from haversack.convert.report import Variant
from haversack.convert.sources import read
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mlperf_tiny"
MODELS = (
    "vww_96.h5",
    "vww_96_float32.tflite",
    "vww_96_int8.tflite",
    "ad01.h5",
    "ad01_float32.tflite",
    "ad01_int8.tflite",
    "sww.h5",
    "sww_int8.tflite",
)
TARGETS = (("tflite", ".tflite"), ("coreml", ".mlpackage"), ("onnx", ".onnx"))


def inputs(model: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """Calibration and verification inputs, by the model's input name."""
    (value,) = read(DATA / model).model.graph.inputs
    name, shape = str(value.name), [size if isinstance(size, int) else 1 for size in value.shape or ()]
    rng = np.random.default_rng(0)
    if model.startswith("sww"):
        with np.load(DATA / "sww_calibration.npz") as archive:
            rows = archive["specs"].reshape(-1, *shape[1:])
        rows = rows.astype(np.float32)
    elif model.startswith("vww"):
        rows = rng.uniform(0, 1, (128, *shape[1:])).astype(np.float32)
    else:
        rows = rng.normal(0, 1, (128, *shape[1:])).astype(np.float32)
    dtype = value.dtype.numpy() if value.dtype is not None else np.float32
    if dtype != np.float32:  # an int8 file takes integers
        rows = rng.integers(-128, 128, rows.shape).astype(dtype)
    return {name: rows[::2]}, {name: rows[1::2]}


def row(model: str, variant: Variant) -> str:
    """One line of the table."""
    judged = variant.verification
    error = max(output.max_relative for output in judged.outputs)
    noise = [output.snr_db for output in judged.to_source]
    snr = "exact" if noise[0] is None else f"{min(value for value in noise if value is not None):.1f} dB"
    return (
        f"| {model} | {variant.target} | {variant.compression} | {variant.bytes:,} | {error:.1e} ({judged.against}) "
        f"| {snr} | {'yes' if judged.verified else 'no'}{f' ({judged.label})' if judged.label else ''} |"
    )


def table() -> Iterator[str]:
    """The lines of the table, as they are measured."""
    yield "| model | target | compression | bytes | relative error | to source | verified |"
    yield "|---|---|---|--:|--:|--:|---|"
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            calibration, verification = inputs(model)
            for target, suffix in TARGETS:
                # A file that is quantized already is kept as it is, which is what fp32 means for it.
                for recipe in ("fp32",) if "int8" in model else ("fp32", "fp16", "int8"):
                    try:
                        made = convert(
                            DATA / model,
                            to=target,
                            compress=recipe,
                            calibration=calibration if recipe == "int8" else None,
                            inputs=verification,
                            output=Path(folder) / f"{Path(model).stem}-{recipe}{suffix}",
                            force=True,
                        )
                    except HaversackError as error:
                        yield f"| {model} | {target} | {recipe} | – | – | – | **failed**: {error} |"
                    else:
                        yield row(model, made.variant)


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE")
    write = parser.parse_args().write
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not DATA.is_dir():
        raise SystemExit(f"the models of MLPerf Tiny are not at {DATA}")
    lines = []
    for line in table():
        print(line, flush=True)
        lines.append(line)
    if write:
        write_between_marks(write, "\n".join(lines) + "\n", "others")


if __name__ == "__main__":
    main()
