"""The `.ort` at each level that onnxruntime saves at, and what execution providers would take of real models.

    python -m benchmarks.ort_mobile                                        about a minute on two cores
    python -m benchmarks.ort_mobile --write docs/onnxruntime-mobile.md     put the tables between the page's marks

Time is one thread, all contenders of a model in turn, as the median over rounds of the ratio to the `.onnx`, which
onnxruntime optimises for this machine as it loads it. "full" is a build that still optimises an `.ort` a little when it
loads it, "minimal" one that cannot: here the installed onnxruntime with its optimisations off.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.latency import interleaved
from benchmarks.marks import write_between_marks
from haversack.convert.deployment import ProviderFit
from haversack.convert.pipeline import convert

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DIGITS = Path(__file__).resolve().parents[1] / "demo" / "haversack" / "demo" / "digits"
LEVELS = ("disabled", "basic", "extended", "all but NCHWc", "all")


@dataclass(frozen=True)
class Case:
    """A model, its data and a recipe."""

    name: str
    source: Path
    recipe: str
    calibration: Path
    preprocess: str | None = None


CASES = tuple(
    Case(f"{name} {recipe}", source, recipe, calibration, preprocess)
    for name, source, calibration, preprocess in (
        ("KWS", DATA / "mlperf_tiny/kws_float32.tflite", DATA / "kws_calibration.npz", None),
        ("ResNet8", DATA / "mlperf_tiny/resnet8_float32.tflite", DATA / "cifar10_calibration.zip", "raw-0-255"),
        ("digits", DIGITS / "digits.onnx", DIGITS / "calibration.npz", None),
    )
    for recipe in ("fp32", "int8")
)


def saved(model: Path, level: str) -> bytes:
    """The `.ort` that onnxruntime saves at a level."""
    levels = onnxruntime.GraphOptimizationLevel
    chosen, disabled = {
        "disabled": (levels.ORT_DISABLE_ALL, []),
        "basic": (levels.ORT_ENABLE_BASIC, []),
        "extended": (levels.ORT_ENABLE_EXTENDED, []),
        "all but NCHWc": (levels.ORT_ENABLE_ALL, ["NchwcTransformer"]),
        "all": (levels.ORT_ENABLE_ALL, []),
    }[level]
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = chosen
        options.optimized_model_filepath = str(Path(folder, "m.ort"))
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        return Path(folder, "m.ort").read_bytes()


def opened(model: bytes, *, optimise: bool = True) -> onnxruntime.InferenceSession:
    """A session of one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def level_rows(case: Case, artifact: Path) -> Iterator[tuple[str, ...]]:
    """A row a level: bytes, and time in a full and in a minimal build."""
    contents = {level: saved(artifact, level) for level in LEVELS}
    sessions = {f"{level}/full": opened(content) for level, content in contents.items()}
    sessions |= {f"{level}/minimal": opened(content, optimise=False) for level, content in contents.items()}
    sessions["onnx"] = opened(artifact.read_bytes())
    spec = sessions["onnx"].get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    feeds = {spec.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    times = interleaved(
        {name: (lambda session=session: session.run(None, feeds)) for name, session in sessions.items()}, "onnx"
    )
    for level in LEVELS:
        ratios = [times[f"{level}/{build}"].ratio for build in ("full", "minimal")]
        yield case.name, level, f"{len(contents[level]):,}", *(f"{ratio:.2f}" for ratio in ratios)


def provider_row(case: Case, fits: tuple[ProviderFit, ...]) -> tuple[str, ...]:
    """What each provider takes of one model."""
    return case.name, *(f"{fit.taken}/{fit.nodes}, {fit.partitions}" for fit in fits)


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the file's marks")
    arguments = parser.parse_args()
    levels: list[tuple[str, ...]] = []
    providers: list[tuple[str, ...]] = []
    names: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(CASES):
            print(f"measuring {case.name}", file=sys.stderr)
            made = convert(
                case.source,
                output=Path(folder, f"{number}.onnx"),
                compress=case.recipe,
                calibration=case.calibration if case.recipe == "int8" else None,
                preprocess=case.preprocess,
                dims=dict.fromkeys(_symbols(case.source), 1),
            )
            levels += level_rows(case, Path(made.path))
            assert made.variant.deployment is not None
            providers.append(provider_row(case, made.variant.deployment.providers))
            names = tuple(fit.provider for fit in made.variant.deployment.providers)
    text = markdown(("model", "level", "bytes", "full", "minimal"), levels)
    fits = markdown(("model", *names), providers)
    print(text, fits, sep="\n")
    if arguments.write is not None:
        write_between_marks(arguments.write, text, "levels")
        write_between_marks(arguments.write, fits, "providers")
    return 0


def _symbols(source: Path) -> list[str]:
    from haversack.convert.hub.shapes import symbols
    from haversack.convert.sources import read

    return list(symbols(read(source).model))


if __name__ == "__main__":
    sys.exit(main())
