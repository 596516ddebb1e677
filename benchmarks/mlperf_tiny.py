"""KWS and ResNet8 packed for every target, beside what today's tools make of them, in one run.

    python -m benchmarks.mlperf_tiny                    both models, about five minutes on two cores
    python -m benchmarks.mlperf_tiny --model KWS
    python -m benchmarks.mlperf_tiny --write README.md  put the tables between the file's `results` marks

Haversack's rows are packed, verified and read back from the bundle; the peers' are made in the same process from the
same source and calibration data (onnxruntime's quantizer gets our stripped float32 `.onnx`, its best case). Accuracy is
on the evaluation sets of `shared/data`, as the difference to the source on the same samples with its 95 % interval.
Latency is one thread, all contenders interleaved; 1.00 is TFLiteConverter's float32 file in LiteRT. Core ML artifacts
are reference-evaluated: they have no latency here.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import peers
from benchmarks.latency import Latency, interleaved
from benchmarks.marks import write_between_marks
from haversack.convert import pack
from haversack.convert.data import Dataset, open_data
from haversack.convert.measured import Accuracy
from haversack.convert.verify.accuracy import accuracy
from haversack.convert.verify.compare import changed
from haversack.runtimes.bundle import open_bundle
from haversack.runtimes.engines import Array, Engine, open_engine
from haversack.runtimes.preprocess import Preprocess

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
REFERENCE = "TFLiteConverter float32"
PAIRS = (
    ("haversack tflite-fp32", "TFLiteConverter float32"),
    ("haversack tflite-int8", "TFLiteConverter int8"),
    ("haversack onnx-int8", "onnxruntime QDQ int8"),
)
"""Ours and the peer that it must keep up with."""

TRANSPOSE = 39
"""BuiltinOperator.TRANSPOSE of TFLite's schema."""


@dataclass(frozen=True)
class Case:
    """A model and its data, relative to `shared/data`."""

    name: str
    source: str
    calibration: str
    evaluation: str
    preprocess: str | None = None


CASES = (
    Case("KWS", "mlperf_tiny/kws_saved_model", "kws_calibration.npz", "kws_evaluation.npz"),
    Case("ResNet8", "mlperf_tiny/resnet8.h5", "cifar10_calibration.zip", "cifar10_evaluation.zip", "raw-0-255"),
)


@dataclass(frozen=True)
class Row:
    """One contender."""

    name: str
    bytes: int
    gzip_bytes: int
    accuracy: Accuracy
    changed: int
    transposes: int | None
    latency: Latency | None


def run(case: Case, folder: Path) -> list[Row]:
    """Make, score and time everything of one model."""
    preprocess = Preprocess.from_spec(case.preprocess) if case.preprocess else None
    bundle_path = folder / f"{case.name}.haversack"
    packed = pack(
        DATA / case.source,
        to=["tflite", "coreml", "onnx"],
        calibration=DATA / case.calibration,
        evaluation=DATA / case.evaluation,
        preprocess=preprocess,
        output=bundle_path,
    )
    artifacts: dict[str, Path] = {}
    with open_bundle(bundle_path) as bundle:
        for variant in bundle.manifest.variants:
            into = folder / f"{case.name}-{variant.id}"
            into.mkdir()
            artifacts[f"haversack {variant.id}"] = bundle.artifact(variant.id, into)
    engines: dict[str, Engine] = {name: open_engine(path) for name, path in artifacts.items()}
    float_onnx = artifacts["haversack onnx-fp32"]
    specs = engines["haversack onnx-fp32"].inputs
    calibration = open_data(DATA / case.calibration, specs, preprocess)
    evaluation = open_data(DATA / case.evaluation, specs, preprocess)

    with contextlib.redirect_stdout(sys.stderr):  # TensorFlow talks while it exports
        made = _peers(case, float_onnx, calibration)
    for name, (data, suffix) in made.items():
        artifacts[name] = folder / (re.sub(r"\W+", "_", f"{case.name} {name}") + suffix)
        artifacts[name].write_bytes(data)
        engines[name] = open_engine(artifacts[name])

    labels = np.array([label for _, label in evaluation.batches(1)]).reshape(-1)
    scores = {name: _scores(engine, evaluation) for name, engine in engines.items()}
    source = scores["haversack onnx-fp32"]  # verified against the source itself when it was packed
    sample = next(_feeds(evaluation))
    calls = {name: _call(engine, sample) for name, engine in engines.items() if not engine.emulated}
    latencies = interleaved(calls, REFERENCE)
    print(f"{case.name}: packed {len(packed.variants)} variants, all verified: "
          f"{all(variant.verification.verified for variant in packed.variants)}", file=sys.stderr)  # fmt: skip
    return [
        Row(
            name=name,
            bytes=_size(artifacts[name]),
            gzip_bytes=_gzip_size(artifacts[name]),
            accuracy=accuracy(scores[name], source, labels),
            changed=changed(source, scores[name]),
            transposes=transposes(artifacts[name]) if artifacts[name].suffix == ".tflite" else None,
            latency=latencies.get(name),
        )
        for name in sorted(engines, key=lambda name: (_target(artifacts[name]), name.startswith("haversack"), name))
    ]


def _peers(case: Case, float_onnx: Path, calibration: Dataset) -> dict[str, tuple[bytes, str]]:
    """What each peer makes, with its suffix, by name."""
    source = DATA / case.source
    return {
        REFERENCE: (peers.tflite_converter(source), ".tflite"),
        "TFLiteConverter int8": (peers.tflite_converter(source, _feeds(calibration)), ".tflite"),
        "onnxruntime QDQ int8": (peers.onnxruntime_quantizer(float_onnx, _feeds(calibration)), ".onnx"),
    }


def table(case: Case, rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        f"**{case.name}**, {rows[0].accuracy.samples:,} evaluation samples",
        "",
        "| artifact | bytes | gzip | accuracy, % | difference, points (95 %) | changed | TRANSPOSE ops "
        "| latency, × (5–95 %) | p50 / p95 / p99, µs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        score = row.accuracy
        time = row.latency
        lines.append(
            f"| {row.name} | {row.bytes:,} | {row.gzip_bytes:,} | {100 * score.value:.2f} "
            f"| {100 * score.difference:+.2f} ({100 * score.difference_low:+.2f} … {100 * score.difference_high:+.2f}) "
            f"| {row.changed} | {'–' if row.transposes is None else row.transposes} "
            + (
                f"| {time.ratio:.2f} ({time.spread[0]:.2f}–{time.spread[1]:.2f}) "
                f"| {time.p50:.0f} / {time.p95:.0f} / {time.p99:.0f} |"
                if time
                else "| reference-evaluated | – |"
            )
        )
    times = {row.name: row.latency for row in rows if row.latency is not None}
    pairs = []
    for own, peer in PAIRS:
        middle, low, high = times[own].against(times[peer])
        pairs.append(f"{own} / {peer} {middle:.3f} ({low:.3f}–{high:.3f})")
    lines += ["", "Latency pair by pair: " + "; ".join(pairs) + "."]
    return "\n".join(lines) + "\n"


def _feeds(data: Dataset) -> Iterator[dict[str, Array]]:
    return (feeds for feeds, _ in data.batches(1))


def _scores(engine: Engine, data: Dataset) -> Array:
    name = engine.inputs[0].name
    return np.concatenate([_first(engine.run({name: _only(feeds)})) for feeds in _feeds(data)])


def _call(engine: Engine, feeds: dict[str, Array]) -> object:
    given = {engine.inputs[0].name: _only(feeds)}
    return lambda: engine.run(given)


def _only(feeds: dict[str, Array]) -> Array:
    (array,) = feeds.values()
    return array


def _first(outputs: dict[str, Array]) -> Array:
    return next(iter(outputs.values()))


def _target(path: Path) -> int:
    return [".tflite", ".onnx", ".mlpackage"].index(path.suffix)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _gzip_size(path: Path) -> int:
    return len(gzip.compress(b"".join(file.read_bytes() for file in _files(path)), 9, mtime=0))


def transposes(path: Path) -> int:
    """How many TRANSPOSE operators a `.tflite` holds."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return sum(codes[op.opcodeIndex] == TRANSPOSE for graph in model.subgraphs for op in graph.operators)


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[case.name for case in CASES])
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"the models and data of MLPerf Tiny are not at {DATA}")
    tables = []
    for case in CASES:
        if arguments.model in (None, case.name):
            with tempfile.TemporaryDirectory() as folder:
                tables.append(table(case, run(case, Path(folder))))
            print(tables[-1], flush=True)
    if arguments.write:
        write_between_marks(arguments.write, "\n".join(tables), "results")


if __name__ == "__main__":
    main()
