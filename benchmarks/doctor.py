"""The doctor on failures planted in real models, and on the same models healthy.

    python -m benchmarks.doctor                          all, some minutes on two cores
    python -m benchmarks.doctor --case digits            those whose name begins so
    python -m benchmarks.doctor --write docs/results.md  put the table between its marks

Digits is the shipped network; KWS and ResNet8 are MLPerf Tiny's, with the sets of `shared/data`; the detector
learns here. A row says what int8 loses, what the doctor names first, the repair it recommends and what that leaves,
measured on the evaluation data by the repaired hub graph, and as a TFLite file where `--to tflite` is given.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from benchmarks import planted
from benchmarks.marks import write_between_marks
from haversack.convert import Diagnosis, diagnose
from haversack.convert.doctor import told

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "demo" / "haversack" / "demo" / "digits"
DATA = ROOT.parent / "shared" / "data"

KWS = ("functional_1/conv2d/BiasAdd", "functional_1/batch_normalization_1/FusedBatchNormV3")
"""KWS' first convolution and the depthwise one behind it."""

RESNET8 = ("conv2d_1/BiasAdd", "conv2d_2/BiasAdd")
"""Two convolutions of ResNet8 with a ReLU between them."""


@dataclass(frozen=True)
class Case:
    """A model, healthy or not, and its data."""

    name: str
    planted: str
    model: Path
    calibration: Path
    evaluation: Path
    preprocess: str | None = None
    metric: str | None = None


def cases(folder: Path, wanted: str) -> Iterator[Case]:
    """Every case whose name begins as wanted; models are written into a folder."""
    if "digits".startswith(wanted):
        data = DIGITS / "calibration.npz", DIGITS / "evaluation.npz"
        own = onnx.load(DIGITS / "digits.onnx")
        yield from _planted("digits", own, folder, ("Conv", "Conv_1"), 3, data, concat=True)
    if "detector".startswith(wanted):
        files = planted.detector_files(folder)
        yield Case("detector", "boxes and scores in one tensor", *files, metric="benchmarks.planted:detected")
    if not DATA.is_dir():
        print("KWS and ResNet8: left out, there is no shared/data beside this checkout", file=sys.stderr)
        return
    if "kws".startswith(wanted):
        data = DATA / "kws_calibration.npz", DATA / "kws_evaluation.npz"
        own = _read(DATA / "mlperf_tiny" / "kws_saved_model", folder, "kws")
        yield from _planted("kws", own, folder, KWS, 5, data, concat=False)  # a depthwise layer reads it: no concat
    if "resnet8".startswith(wanted):
        data = DATA / "cifar10_calibration.zip", DATA / "cifar10_evaluation.zip"
        own = _read(DATA / "mlperf_tiny" / "resnet8.h5", folder, "resnet8")
        yield from _planted("resnet8", own, folder, RESNET8, 5, data, "raw-0-255", concat=True)


def _planted(
    name: str,
    own: onnx.ModelProto,
    folder: Path,
    layers: tuple[str, str],
    channel: int,
    data: tuple[Path, Path],
    preprocess: str | None = None,
    *,
    concat: bool,
) -> Iterator[Case]:
    """The healthy model, then the failures."""
    yield Case(name, "nothing", _saved(own, folder, name), *data, preprocess)
    sick = _saved(planted.outlier_channel(own, *layers, channel), folder, f"{name}-outlier")
    yield Case(name, "outlier channel, 100×", sick, *data, preprocess)
    if concat:
        sick = _saved(planted.unlike_concat(own, *layers), folder, f"{name}-concat")
        yield Case(name, "concat of unlike ranges", sick, *data, preprocess)


def _read(source: Path, folder: Path, name: str) -> onnx.ModelProto:
    from haversack.convert.sources import read

    path = folder / f"{name}.onnx"
    ir.save(read(source).model, path)
    return onnx.load(path)


def _saved(model: onnx.ModelProto, folder: Path, name: str) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


COLUMNS = (
    *("model", "planted", "float", "int8", "first cause named", "its loss alone"),
    *("repair", "repaired, points (95 %)", "bytes", "tried", "s"),
)
HEADER = "| " + " | ".join(COLUMNS) + " |\n|---|---|--:|--:|---|--:|---|--:|--:|--:|--:|\n"


def row(case: Case, found: Diagnosis, seconds: float) -> str:
    """One line of the table."""
    before, after = found.before, found.after
    assert before is not None
    kept = next((trial for trial in found.trials if trial.kept), None)
    first = found.causes[0] if found.causes else None
    cells = [
        case.name,
        case.planted,
        _percent(before.value - before.difference),
        f"{_percent(before.value)} ({told.change(before)})",
        "none: healthy" if found.healthy else "-" if first is None else f"{first.kind}: `{first.where}`",
        "" if first is None or first.loss is None else told.amount(first.loss, found.harm.unit),
        "none needed" if found.healthy else found.repair or "none found",
        "" if after is None else f"{_percent(after.value)} ({told.change(after)})",
        "" if kept is None else f"{kept.bytes:+,}",
        str(len(found.trials)),
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", metavar="NAME", help="only cases whose name begins so")
    parser.add_argument("--to", metavar="TARGET", help="deliver for it as well")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks")
    options = parser.parse_args()
    text = HEADER
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder), options.case):
            start = time.perf_counter()
            found = diagnose(
                case.model,
                calibration=case.calibration,
                evaluation=case.evaluation,
                preprocess=case.preprocess,
                metric=case.metric,
                to=options.to,
            )
            line = row(case, found, time.perf_counter() - start)
            print(f"{case.name}, planted: {case.planted}\n{told.text(found)}\n", file=sys.stderr, flush=True)
            text += line
    print(text)
    if options.write is not None:
        write_between_marks(options.write, text, "doctor")


if __name__ == "__main__":
    main()
