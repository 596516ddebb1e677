"""The smallest Core ML package of ResNet8 that coremltools makes within one point of float, over its settings.

    python -m benchmarks.coreml_best                    about half an hour on one core
    python -m benchmarks.coreml_best --every 4          a quarter of the evaluation samples
    python -m benchmarks.coreml_best --write docs/results.md    between the file's `coreml-best` marks

coremltools' `optimize` compresses the packages that Haversack wrote in float32 and in float16 for iOS 18, which has
every form: linear weights a channel and in blocks, palettes of a tensor and of groups of channels, pruning and palettes
together; thresholds of 0 and of 2,048 weights (its default). Accuracy is of the reference evaluator, on the evaluation
samples, as the paired difference to the float32 package. Bytes are all files of the package.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.coreml_compression import _scores
from benchmarks.marks import write_between_marks
from benchmarks.mlperf_tiny import CASES, DATA
from haversack.convert import convert
from haversack.convert.data import open_data
from haversack.convert.publish import size
from haversack.convert.report import Accuracy
from haversack.convert.targets.coreml import sdk
from haversack.convert.verify.accuracy import accuracy
from haversack.runtimes.engines import open_engine
from haversack.runtimes.preprocess import Preprocess

MODEL = "ResNet8"
MOST = 0.010
"""The difference to float that is allowed."""


@dataclass(frozen=True)
class Setting:
    """What coremltools is asked for: what is done one after the other, each a kind and its configuration."""

    name: str
    steps: tuple[tuple[str, dict[str, Any]], ...]


def settings() -> Iterator[Setting]:
    """Every setting, at its two thresholds."""
    linear = {"int8 a tensor": ("int8", "per_tensor"), "int8 a channel": ("int8", "per_channel"),
              "int4 a channel": ("int4", "per_channel")}  # fmt: skip
    plain = {name: ("linear", {"dtype": d, "granularity": g}) for name, (d, g) in linear.items()}
    blocks = {
        f"int4 in blocks of {n}": ("linear", {"dtype": "int4", "granularity": "per_block", "block_size": n})
        for n in (8, 16, 32)
    }
    palettes = {f"palette{bits}": ("palette", {"mode": "kmeans", "nbits": bits}) for bits in (3, 4, 6, 8)}
    uniform = {"palette6 uniform": ("palette", {"mode": "uniform", "nbits": 6})}
    groups = {
        f"palette{bits} for {n} channels": (
            "palette",
            {"mode": "kmeans", "nbits": bits, "granularity": "per_grouped_channel", "group_size": n},
        )
        for bits in (3, 4)
        for n in (1, 2, 4, 8, 16)
    }
    scaled = {
        "palette4 with channel scales": (
            "palette", {"mode": "kmeans", "nbits": 4, "enable_per_channel_scale": True}
        )
    }  # fmt: skip
    for threshold in (0, 2048):
        for name, (kind, config) in {**plain, **blocks, **palettes, **uniform, **groups, **scaled}.items():
            yield Setting(f"{name}, threshold {threshold:,}", ((kind, {**config, "weight_threshold": threshold}),))
        for share in (0.25, 0.5):
            prune = ("prune", {"target_sparsity": share, "weight_threshold": threshold})
            palette = ("palette", {"mode": "kmeans", "nbits": 6, "weight_threshold": threshold})
            yield Setting(f"{share:.0%} pruned and palette6, threshold {threshold:,}", (prune, palette))


def compressed(source: Path, setting: Setting, folder: Path) -> Path:
    """The package that coremltools makes of `source`."""
    coremltools = sdk.load()
    import coremltools.optimize.coreml as optimize

    ways: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "linear": (optimize.OpLinearQuantizerConfig, optimize.linear_quantize_weights),
        "palette": (optimize.OpPalettizerConfig, optimize.palettize_weights),
        "prune": (optimize.OpMagnitudePrunerConfig, optimize.prune_weights),
    }
    copy = folder / "source.mlpackage"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)  # coremltools rewrites the manifest of what it reads
    model = coremltools.models.MLModel(str(copy), skip_model_load=True)
    for step, (kind, given) in enumerate(setting.steps):
        config, run = ways[kind]
        options = {"joint_compression": True} if step else {}
        wanted = {"mode": "linear_symmetric", **given} if kind == "linear" else given
        model = run(model, optimize.OptimizationConfig(global_config=config(**wanted)), **options)
    made = folder / "made.mlpackage"
    shutil.rmtree(made, ignore_errors=True)
    model.save(str(made))
    return made


@dataclass(frozen=True)
class Row:
    """One package."""

    name: str
    compute: str
    bytes: int
    accuracy: Accuracy


def run(every: int, folder: Path) -> list[Row]:
    """Make and score everything."""
    case = next(case for case in CASES if case.name == MODEL)
    preprocess = Preprocess.from_spec(case.preprocess) if case.preprocess else None
    sources = {}
    for compute in ("fp32", "fp16"):
        sources[compute] = folder / f"{compute}.mlpackage"
        convert(DATA / case.source, compress=compute, output=sources[compute], deployment_target="iOS18")
    specs = open_engine(sources["fp32"]).inputs
    evaluation = open_data(DATA / case.evaluation, specs, preprocess)
    source, labels = _scores(sources["fp32"], evaluation, every)
    rows = []
    for compute, package in sources.items():
        for setting in settings():
            try:
                made = compressed(package, setting, folder)
            except Exception as error:  # coremltools raises what comes
                print(f"{compute}, {setting.name}: {' '.join(str(error).split())[:120]}", file=sys.stderr)
                continue
            scores, _ = _scores(made, evaluation, every)
            row = Row(setting.name, compute, size(made), accuracy(scores, source, labels))
            rows.append(row)
            print(f"{compute}, {row.name}: {row.bytes:,} bytes, {row.accuracy.difference:+.4f}", file=sys.stderr)
    return sorted(rows, key=lambda row: row.bytes)


def table(rows: list[Row]) -> str:
    """The rows in Markdown, the smallest first, and the winner."""
    within = [row for row in rows if row.accuracy.difference >= -MOST]
    lines = ["| setting | arithmetic | bytes | accuracy | against fp32, points (95 %) |", "|---|---|---|---|---|"]
    for row in rows:
        found = row.accuracy
        between = f"{100 * found.difference_low:+.1f} … {100 * found.difference_high:+.1f}"
        lines.append(
            f"| {row.name} | {row.compute} | {row.bytes:,} | {100 * found.value:.2f} % "
            f"| {100 * found.difference:+.2f} ({between}) |"
        )
    best = f"{within[0].name}, {within[0].compute}: {within[0].bytes:,} bytes" if within else "none"
    return "\n".join(lines) + f"\n\nThe smallest within one point: {best}.\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="take every n-th evaluation sample")
    parser.add_argument("--write", type=Path, help="a Markdown file with the marks <!-- coreml-best -->")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(run(options.every, Path(folder)))
    print(text)
    if options.write:
        write_between_marks(options.write, text, "coreml-best")


if __name__ == "__main__":
    main()
