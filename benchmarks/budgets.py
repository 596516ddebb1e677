"""What `pack` finds within a budget of one point, beside the smallest that today's tools make, in one run.

    python -m benchmarks.budgets                     KWS and ResNet8, every target, some ten minutes on two quiet cores
    python -m benchmarks.budgets --model KWS
    python -m benchmarks.budgets --write README.md   put the tables between the file's `budgets` marks

Each of our rows is a variant that `pack --max-drop 1.0` chose, made, verified and put into the bundle; nothing is
chosen here. Bits are chosen on calibration data. Labels of the evaluation data are looked at in one place,
`planning/search.py`: whether a whole plan stays within the point. The differences in the table are of the same samples,
which flatters the smallest row of each kind by what chance gave it; samples that neither saw say more.

Latency is one thread, all contenders interleaved; 1.00 is our float32 file in LiteRT, which runs as fast as
TFLiteConverter's (`benchmarks.mlperf_tiny`). `with engine` adds the engine's library as it is installed here.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import brotli
import numpy as np

from benchmarks import peers
from benchmarks.latency import Latency, interleaved
from benchmarks.marks import write_between_marks
from benchmarks.mlperf_tiny import CASES, DATA, Case, _call, _feeds, _files, _scores, _size
from haversack.convert import pack
from haversack.convert.data import open_data
from haversack.convert.measured import Accuracy
from haversack.convert.report import Pack
from haversack.convert.verify.accuracy import accuracy
from haversack.runtimes.bundle import open_bundle
from haversack.runtimes.engines import Engine, open_engine
from haversack.runtimes.preprocess import Preprocess

REFERENCE = "tflite-fp32"
BUDGET = 1.0


@dataclass(frozen=True)
class Row:
    """One contender."""

    name: str
    target: str
    bytes: int
    wire: int
    accuracy: Accuracy
    latency: Latency | None
    engine: int | None
    ours: bool


def run(case: Case, folder: Path, *, confident: bool) -> tuple[list[Row], Pack, float]:
    """Pack, make what the peers make, score and time all of it; also what packing took in seconds."""
    preprocess = Preprocess.from_spec(case.preprocess) if case.preprocess else None
    bundle_path = folder / f"{case.name}.haversack"
    start = time.perf_counter()
    packed = pack(
        DATA / case.source,
        to=["tflite", "onnx", "coreml"],
        calibration=DATA / case.calibration,
        evaluation=DATA / case.evaluation,
        preprocess=preprocess,
        max_drop=BUDGET,
        confident=confident,
        output=bundle_path,
    )
    seconds = time.perf_counter() - start
    artifacts: dict[str, Path] = {}
    with open_bundle(bundle_path) as bundle:
        for variant in bundle.manifest.variants:
            into = folder / f"{case.name}-{variant.id}"
            into.mkdir()
            artifacts[variant.id] = bundle.artifact(variant.id, into)
    ours = set(artifacts)
    engines: dict[str, Engine] = {name: open_engine(path) for name, path in artifacts.items()}
    specs = engines["onnx-fp32"].inputs
    calibration = open_data(DATA / case.calibration, specs, preprocess)
    evaluation = open_data(DATA / case.evaluation, specs, preprocess)
    with contextlib.redirect_stdout(sys.stderr):  # TensorFlow talks while it exports
        made = {
            "TFLiteConverter int8 per-tensor, names stripped": (
                peers.strip_tflite(peers.tflite_converter(DATA / case.source, _feeds(calibration), per_channel=False)),
                ".tflite",
            ),
            "onnxruntime QDQ int8, stripped": (
                peers.strip_onnx(peers.onnxruntime_quantizer(artifacts["onnx-fp32"], _feeds(calibration))),
                ".onnx",
            ),
        }
    for index, (name, (content, suffix)) in enumerate(made.items()):
        artifacts[name] = folder / f"{case.name}-peer{index}{suffix}"
        artifacts[name].write_bytes(content)
        engines[name] = open_engine(artifacts[name])
    labels = np.array([label for _, label in evaluation.batches(1)]).reshape(-1)
    scores = {name: _scores(engine, evaluation) for name, engine in engines.items()}
    sample = next(_feeds(evaluation))
    calls = {name: _call(engine, sample) for name, engine in engines.items() if not engine.emulated}
    latencies = interleaved(calls, REFERENCE)
    targets = {".tflite": "tflite", ".onnx": "onnx", ".mlpackage": "coreml"}
    rows = []
    for name, path in artifacts.items():
        target = targets[path.suffix]
        engine = packed.engines.get(target)
        content = b"".join(file.read_bytes() for file in _files(path))
        rows.append(
            Row(
                name=f"haversack {name}" if name in ours else name,
                target=target,
                bytes=_size(path),
                wire=len(brotli.compress(content)),
                accuracy=accuracy(scores[name], scores["onnx-fp32"], labels, BUDGET),
                latency=latencies.get(name),
                engine=None if engine is None else engine.bytes,
                ours=name in ours,
            )
        )
    return (
        sorted(rows, key=lambda row: (list(targets.values()).index(row.target), row.ours, row.bytes)),
        packed,
        seconds,
    )


def table(case: Case, rows: list[Row], packed: Pack, seconds: float, *, confident: bool) -> str:
    """The rows as Markdown."""
    judged = "the bound of the 95 % interval" if confident else "the measured difference"
    stages = ", ".join(f"{name} {taken:.0f}" for name, taken in packed.stages.items())
    lines = [
        f"**{case.name}**, {rows[0].accuracy.samples:,} evaluation samples, at most {BUDGET:g} point by {judged}; "
        f"packed in {seconds:.0f} s ({stages})",
        "",
        "| artifact | bytes | brotli | with engine | accuracy, % | difference, points (95 %) | McNemar p "
        "| latency, × (5–95 %) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        score, taken = row.accuracy, row.latency
        best = row.ours and packed.best.get(row.target) == row.name.removeprefix(f"haversack {row.target}-")
        lines.append(
            f"| {'**' + row.name + '**' if best else row.name} | {row.bytes:,} | {row.wire:,} "
            f"| {'–' if row.engine is None else f'{row.bytes + row.engine:,}'} | {100 * score.value:.2f} "
            f"| {100 * score.difference:+.2f} ({100 * score.difference_low:+.2f} … {100 * score.difference_high:+.2f}) "
            f"| {'–' if score.p_value is None else f'{score.p_value:.2g}'} "
            f"| {'reference-evaluated' if taken is None else _ratio(taken)} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(taken: Latency) -> str:
    return f"{taken.ratio:.2f} ({taken.spread[0]:.2f}–{taken.spread[1]:.2f})"


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[case.name for case in CASES])
    parser.add_argument("--confident", action="store_true", help="judge by the bound of the interval")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"the models and data of MLPerf Tiny are not at {DATA}")
    tables = []
    for case in CASES:
        if arguments.model in (None, case.name):
            with tempfile.TemporaryDirectory() as folder:
                found = run(case, Path(folder), confident=arguments.confident)
                tables.append(table(case, *found, confident=arguments.confident))
            print(tables[-1], flush=True)
    if arguments.write:
        write_between_marks(arguments.write, "\n".join(tables), "budgets")


if __name__ == "__main__":
    main()
