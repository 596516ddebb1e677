"""Core ML packages of KWS and ResNet8, compressed by Haversack and by coremltools' own `optimize`, in one run.

    python -m benchmarks.coreml_compression                  both models, about ten minutes on two cores
    python -m benchmarks.coreml_compression --model KWS
    python -m benchmarks.coreml_compression --write README.md   put the table between the file's `coreml` marks

coremltools compresses the packages that Haversack wrote in float32 and in float16, with its defaults (k-means palettes,
int8 weights with one scale a channel; its threshold of 2,048 weights, and none as well). It quantizes activations in
pure float16 programs only (it writes float16 scales, and stops at its own program elsewhere), so for that it gets the
float16 package before Haversack has put layers back into float32. Off Apple its calibration has no `predict`; here that
is the reference evaluator, and it sees the first `CALIBRATED` samples of the calibration data. Ours sees all of them.

Accuracy is of the reference evaluator on a fixed subset of the evaluation set: all 450 samples of KWS, every fourth of
ResNet8's 5,000. Bytes are all files of the package.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marks import write_between_marks
from benchmarks.mlperf_tiny import CASES, DATA, Case
from haversack.convert import convert, pack
from haversack.convert.data import Dataset, open_data
from haversack.convert.measured import Accuracy
from haversack.convert.publish import size
from haversack.convert.targets.coreml import sdk
from haversack.convert.verify.accuracy import accuracy
from haversack.runtimes.bundle import open_bundle
from haversack.runtimes.engines import Array, open_engine
from haversack.runtimes.preprocess import Preprocess

RECIPES = (
    "fp32",
    "fp16",
    "int8-weights",
    "int8",
    "palette6",
    "palette4",
    "int4-weights",
    "sparse50",
    "sparse50-palette4",
)
HALF = ("int8-weights", "palette6", "palette4")
"""Those that are made with float16 arithmetic too, as coremltools makes them of the float16 package."""

EVERY = {"KWS": 1, "ResNet8": 4}
CALIBRATED = 50
THRESHOLDS = (2048, 0)


@dataclass(frozen=True)
class Row:
    """One package."""

    recipe: str
    compute: str
    tool: str
    bytes: int
    accuracy: Accuracy


def run(case: Case, folder: Path) -> list[Row]:
    """Make and score everything of one model."""
    preprocess = Preprocess.from_spec(case.preprocess) if case.preprocess else None
    path = folder / f"{case.name}.haversack"
    packed = pack(
        DATA / case.source,
        to=["coreml"],
        recipes=[*RECIPES, *(f"{name}-fp16" for name in HALF)],
        calibration=DATA / case.calibration,
        preprocess=preprocess,
        output=path,
    )
    verified = all(variant.verification.verified for variant in packed.variants)
    print(f"{case.name}: {len(packed.variants)} variants, all verified: {verified}", file=sys.stderr)
    packages: dict[tuple[str, str, str], Path] = {}
    with open_bundle(path) as bundle:
        for variant in bundle.manifest.variants:
            into = folder / f"{case.name}-{variant.id}"
            into.mkdir()
            name = variant.id.removeprefix("coreml-")
            compute = "fp16" if name.endswith("fp16") else "fp32"
            packages[name.removesuffix("-fp16"), compute, "Haversack"] = bundle.artifact(variant.id, into)
    specs = open_engine(packages["fp32", "fp32", "Haversack"]).inputs
    calibration = open_data(DATA / case.calibration, specs, preprocess)
    samples = [feeds for feeds, _ in calibration.batches(1)][:CALIBRATED]
    pure = folder / f"{case.name}-pure.mlpackage"
    convert(DATA / case.source, compress="fp16", output=pure, verify=False)
    for compute in ("fp32", "fp16"):
        source = packages[compute, compute, "Haversack"]
        into = folder / f"{case.name}-{compute}-peers"
        for (recipe, tool), made in _peers(source, pure if compute == "fp16" else None, samples, into):
            packages[recipe, compute, tool] = made
    evaluation = open_data(DATA / case.evaluation, specs, preprocess)
    labels, scores = None, {}
    for key, package in packages.items():
        scores[key], labels = _scores(package, evaluation, EVERY[case.name])
        print(f"{case.name}: {' '.join(key)} scored", file=sys.stderr)
    assert labels is not None
    source = scores["fp32", "fp32", "Haversack"]
    order = sorted(packages, key=lambda key: (RECIPES.index(key[0]), key[1], key[2]))
    return [Row(*key, size(packages[key]), accuracy(scores[key], source, labels)) for key in order]


def _scores(package: Path, data: Dataset, every: int) -> tuple[Array, Array]:
    engine = open_engine(package)
    (output,) = engine.outputs
    rows, labels = [], []
    for index, (feeds, label) in enumerate(data.batches(1)):
        if index % every == 0:
            rows.append(engine.run(dict(feeds))[output.name])
            labels.append(label)
    return np.concatenate(rows), np.array(labels).reshape(-1)


def _peers(
    source: Path, pure: Path | None, samples: list[Mapping[str, Array]], folder: Path
) -> Iterator[tuple[tuple[str, str], Path]]:
    """What coremltools makes of a float package, by recipe and name; activations are quantized in `pure`."""
    folder.mkdir()
    coremltools = sdk.load()
    import coremltools.optimize.coreml as optimize

    def quantized(model: Any, threshold: int) -> Any:
        config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=threshold)
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=config))

    def palettized(bits: int) -> Callable[[Any, int], Any]:
        def make(model: Any, threshold: int) -> Any:
            config = optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=threshold)
            return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=config))

        return make

    def activations(model: Any, threshold: int) -> Any:
        config = optimize.OptimizationConfig(global_config=optimize.OpLinearQuantizerConfig(mode="linear_symmetric"))
        with _predicting():
            model = optimize.linear_quantize_activations(model, config, [dict(feeds) for feeds in samples])
        return quantized(model, threshold)

    makers = {"int8-weights": quantized, "palette6": palettized(6), "palette4": palettized(4), "int8": activations}
    for recipe, make in makers.items():
        given = pure if recipe == "int8" else source
        if given is None:
            continue
        for threshold in THRESHOLDS:
            copy = folder / "source.mlpackage"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(given, copy)  # coremltools rewrites the manifest of what it reads
            made = folder / f"{recipe}-{threshold}.mlpackage"
            make(coremltools.models.MLModel(str(copy), skip_model_load=True), threshold).save(str(made))
            yield (recipe, f"coremltools, threshold {threshold:,}"), made


@contextmanager
def _predicting() -> Iterator[None]:
    """Let `MLModel.predict` lead to the reference evaluator."""
    from coremltools.models import MLModel

    from haversack.runtimes.engines.coreml import EvaluatorEngine

    def predict(model: Any, data: dict[str, Any], state: Any = None) -> dict[str, Any]:
        del state
        engine = EvaluatorEngine(Path(model.package_path))
        return engine.run({spec.name: data[spec.name].astype(spec.dtype) for spec in engine.inputs})

    before = MLModel.predict
    MLModel.predict = predict
    try:
        yield
    finally:
        MLModel.predict = before


def table(results: Mapping[str, list[Row]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| model | compression | arithmetic | by | bytes | accuracy | against fp32, points (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in results.items():
        for row in rows:
            found = row.accuracy
            between = f"{100 * found.difference_low:+.1f} … {100 * found.difference_high:+.1f}"
            change = f"{100 * found.difference:+.1f} ({between})"
            lines.append(
                f"| {name} | {row.recipe} | {row.compute} | {row.tool} | {row.bytes:,} "
                f"| {100 * found.value:.1f} % | {change} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[case.name for case in CASES])
    parser.add_argument(
        "--write", type=Path, help="a Markdown file with the marks <!-- coreml --> and <!-- /coreml -->"
    )
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if options.model in (None, case.name):
                results[case.name] = run(case, Path(folder))
    text = table(results)
    print(text)
    if options.write:
        write_between_marks(options.write, text, "coreml")


if __name__ == "__main__":
    main()
