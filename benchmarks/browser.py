"""Artifacts in a real Chromium beside their native engines: the same outputs, and how much slower.

    python -m benchmarks.browser                           about five minutes on two cores
    python -m benchmarks.browser --models digits --seconds 2
    python -m benchmarks.browser --write docs/results.md   put the tables between the file's marks

KWS, ResNet8, the digits model and a transformer encoder (tests/networks, random weights, PyTorch's default exporter),
converted to float32 and int8 for ONNX Runtime and for TFLite, in the page and natively, with one thread and with two,
the page isolated. Outputs are compared over the evaluation samples: float32 within a relative error of 1e-4, int8
exactly, or the difference is in the table. Latency is paired: native and browser take turns in rounds, and the ratio is
the median of the rounds' (5th to 95th percentile). The page's clock ticks in steps of 5 microseconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.marks import write_between_marks
from benchmarks.pytorch_exports import module
from haversack.convert import convert
from haversack.convert.data import open_data
from haversack.convert.latency_browser import Paired, paired
from haversack.convert.verify.compare import changed, distance
from haversack.runtimes.engines import Array, open_engine
from haversack.runtimes.engines.browser import BrowserEngine
from haversack.runtimes.errors import HaversackError
from haversack.runtimes.preprocess import Preprocess

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
DIGITS = ROOT / "demo" / "haversack" / "demo" / "digits"
RECIPES = ("fp32", "int8")
THREADS = (1, 2)
TARGETS = {"onnx": "browser", "tflite": "litertjs"}
"""Target and the browser engine that runs its artifacts."""

SAMPLES = 450
FLOAT32 = 1e-4


@dataclass(frozen=True)
class Model:
    """What is converted, and the data: both made in the folder that the benchmark works in where they are not files."""

    source: Path
    calibration: Path
    evaluation: Path
    preprocess: str | None = None


@dataclass(frozen=True)
class Row:
    """One artifact in one engine with one number of threads."""

    artifact: str
    threads: int
    samples: int
    relative: float
    changed: int
    native: Paired
    browser: Paired
    engine: BrowserEngine
    why: str


def models(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Model]]:
    """The models by name."""
    made = {
        "KWS": lambda: Model(
            DATA / "mlperf_tiny/kws_saved_model", DATA / "kws_calibration.npz", DATA / "kws_evaluation.npz"
        ),
        "ResNet8": lambda: Model(
            DATA / "mlperf_tiny/resnet8.h5",
            DATA / "cifar10_calibration.zip",
            DATA / "cifar10_evaluation.zip",
            "raw-0-255",
        ),
        "digits": lambda: Model(DIGITS / "digits.onnx", DIGITS / "calibration.npz", DIGITS / "evaluation.npz"),
        "encoder": lambda: _encoder(folder),
    }
    for name in names:
        yield name, made[name]()


def _encoder(folder: Path) -> Model:
    networks, exports = module("architectures"), module("exports")
    exports.export(networks, "own attention", folder / "encoder.onnx", "dynamo")
    for name, seeds in (("calibration", range(64)), ("evaluation", range(100, 100 + 64))):
        rows = [networks.sample("own attention", seed=seed).numpy() for seed in seeds]
        np.savez(folder / f"encoder_{name}.npz", input=np.concatenate(rows))
    return Model(folder / "encoder.onnx", folder / "encoder_calibration.npz", folder / "encoder_evaluation.npz")


def measure(name: str, model: Model, folder: Path, seconds: float) -> Iterator[Row | str]:
    """Every artifact of a model in every engine; a sentence where an engine does not take one."""
    for target, engine in TARGETS.items():
        for recipe in RECIPES:
            label = f"{name} {recipe} ({'ONNX Runtime' if target == 'onnx' else 'TFLite'})"
            path = folder / f"{name}-{recipe}.{target}"
            try:
                convert(
                    model.source,
                    to=target,
                    output=path,
                    compress=recipe,
                    calibration=str(model.calibration),
                    preprocess=model.preprocess,
                    force=True,
                    isolate=True,
                )
            except HaversackError as error:
                yield f"{label}: not converted: {error}"
                continue
            for threads in THREADS:
                try:
                    yield _row(label, path, engine, threads, model, seconds)
                except HaversackError as error:
                    yield f"{label} does not run in {engine}: {error}"
                    break


def _row(label: str, path: Path, engine: str, threads: int, model: Model, seconds: float) -> Row:
    native = open_engine(path, threads=threads)
    browser = open_engine(path, threads=threads, engine=engine)
    assert isinstance(browser, BrowserEngine)
    prepare = None if model.preprocess is None else Preprocess.from_spec(model.preprocess)
    samples: list[dict[str, Array]] = []
    for feeds, _ in open_data(str(model.evaluation), native.inputs, prepare).batches(1):
        samples.append(feeds)
        if len(samples) == SAMPLES:
            break
    wanted = [native.run(feeds) for feeds in samples]
    found = browser.run_many(samples)
    (output,) = (spec.name for spec in native.outputs)
    theirs = next(iter(found[0]))
    one, two = np.concatenate([row[output] for row in wanted]), np.concatenate([row[theirs] for row in found])
    scores = one.ndim == 2
    why = _why(label, path, samples, one, two) if "int8" in label and not np.array_equal(one, two) else ""
    timed = paired([native, browser], samples[0], runs=100_000, seconds=seconds)
    flips = changed(one, two) if scores else 0
    return Row(label, threads, len(samples), distance(one, two).relative, flips, *timed, browser, why)


def _why(label: str, path: Path, samples: Sequence[dict[str, Array]], native: Array, found: Array) -> str:
    """How both engines lie to the graph as it is written, in steps of the output, in words."""
    if path.suffix == ".onnx":
        from haversack.runtimes.engines.onnxruntime import open_artifact

        reference = open_artifact(path, optimize=False)
    else:
        from haversack.runtimes.engines.litert import open_artifact as open_tflite

        reference = open_tflite(path, reference_kernels=True)
    wanted = np.concatenate([next(iter(reference.run(feeds).values())) for feeds in samples])
    step = float(np.diff(np.unique(wanted)).min())

    def apart(one: Array, two: Array) -> str:
        return f"{np.mean(one != two):.2%} of the elements, at most {np.abs(one - two).max() / step:.0f} steps"

    return (
        f"{label}: an integer kernel rounds a tie of a float operator's result apart. To each other: "
        f"{apart(native, found)}; native to the graph without optimisations: {apart(wanted, native)}; "
        f"Chromium to that: {apart(wanted, found)}."
    )


def line(row: Row) -> str:
    """One line of the table."""
    native, there = row.native, row.browser
    p50, p95, p99 = 1e3 * np.percentile(there.milliseconds, [50, 95, 99])
    error = "exact" if row.relative == 0 else f"{row.relative:.1e}"
    engine = row.engine
    first = "–" if engine.first_ms is None else f"{engine.first_ms:.1f}"
    return (
        f"| {row.artifact} | {engine.facts.threads} | {row.samples} | {error} | {row.changed} "
        f"| {1e3 * np.median(native.milliseconds):.0f} | {p50:.0f} / {p95:.0f} / {p99:.0f} "
        f"| {there.ratio:.2f} ({there.low:.2f}–{there.high:.2f}) | {engine.load_ms:.0f} | {first} |"
    )


HEAD = (
    "| artifact | threads | samples | error to native | changed | native p50, µs | Chromium p50 / p95 / p99, µs "
    "| × native (5–95 %) | load, ms | first run, ms |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
)


def main() -> int:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("KWS", "ResNet8", "digits", "encoder")
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each engine in each comparison (default 4)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the file's marks")
    arguments = parser.parse_args()
    lines, said, wrong = [*HEAD], [], []
    facts: dict[str, str] = {}
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models(Path(folder), arguments.models):
            for row in measure(name, model, Path(folder), arguments.seconds):
                if isinstance(row, str):
                    said.append(row)
                    print(row, file=sys.stderr)
                    continue
                lines.append(line(row))
                if row.why and row.threads == 1:
                    said.append(row.why)
                print(lines[-1], flush=True)
                facts[row.engine.name] = f"{row.engine.facts.runtime} in {row.engine.facts.chromium}"
                if row.engine.facts.threads != row.threads or not row.engine.facts.isolated:
                    wrong.append(f"{row.artifact}: {row.engine.facts.threads} of {row.threads} threads")
                if "fp32" in row.artifact and not row.relative <= FLOAT32:
                    wrong.append(f"{row.artifact}: relative error {row.relative:.1e}")
    notes = ["", f"Isolated pages, {'; '.join(facts.values())}.", "", *(f"- {each}" for each in said)]
    print("\n".join([*notes, *wrong]))
    lines += notes
    if arguments.write:
        write_between_marks(arguments.write, "\n".join(lines) + "\n", "browser")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
