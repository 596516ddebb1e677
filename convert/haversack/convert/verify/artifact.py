"""Verifying an artifact that exists already."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from haversack.convert.compress import is_quantized
from haversack.convert.compress.recipes import RangeRule, Recipe, WeightGranularity
from haversack.convert.errors import UsageError, VerificationError
from haversack.convert.flexible import Size
from haversack.convert.names import target_of
from haversack.convert.pipeline import STATIC_TARGETS, checked_recipe
from haversack.convert.publish import private_folder, size
from haversack.convert.report import Checked
from haversack.convert.targets import Layer, Options, open_target
from haversack.convert.verify.accuracy import measure_of
from haversack.convert.verify.contract import COMPRESSED, contract
from haversack.convert.verify.edges import Edges
from haversack.convert.verify.execute import Progress, silent
from haversack.convert.verify.judge import Subject, judge
from haversack.convert.work import Data, Work
from haversack.runtimes.engines import ENGINES, WEB_MODEL, check_runs, open_engine
from haversack.runtimes.errors import HaversackError
from haversack.runtimes.preprocess import Preprocess


def verify_artifact(
    artifact: str | Path,
    against: str | Path,
    *,
    inputs: Data | None = None,
    compress: str = "fp32",
    calibration: Data | None = None,
    preprocess: str | Path | Preprocess | None = None,
    io_layout: Literal["keep", "channels-last"] = "keep",
    io_dtype: Literal["float32", "int8"] = "float32",
    deployment_target: str | None = None,
    dims: Mapping[str, Size] | None = None,
    ranges: RangeRule = "mse",
    weights: WeightGranularity = "auto",
    metric: str | None = None,
    methods: Sequence[str] | None = None,
    engine: str | None = None,
    isolate: bool = False,
    progress: Progress | None = None,
) -> Checked:
    """Execute an artifact and the model it was made from on the same inputs, and hold it to its recipe's contract.

    Args:
        artifact: A `.tflite`, `.onnx`, `.ort`, `.mlpackage` or `.web`.
        against: The model.
        inputs: DATA to execute on; by default the calibration data, without it seeded made-up inputs.
        compress: The recipe it was made with.
        calibration: For `int8`: the same DATA it was made with, so that the compressed model is the same.
        preprocess: How images in DATA become inputs.
        io_layout: As it was made.
        io_dtype: As it was made.
        dims: Sizes of symbolic dimensions that were fixed when it was made, by name.
        deployment_target: As it was made.
        ranges: As it was made.
        weights: As it was made.
        metric: What of the inputs accuracy means, by default `top1`; see `verify.metrics`.
        methods: As it was made.
        engine: What executes the artifact: None for the engine that its suffix names; `browser` or `litertjs` execute
            it in Chromium and compare with that engine too.
        isolate: Do it in a fresh process with limits.
        progress: Hears how far it is.

    Raises:
        VerificationError: It does not keep the contract; the first diverging layer is named where Haversack's own
            artifact of that model has the same layers.
    """
    artifact, against = Path(artifact), Path(against)
    if isolate:
        from haversack.convert import isolated

        return isolated.verify(
            artifact, against, progress=progress, inputs=inputs, compress=compress, calibration=calibration,
            preprocess=preprocess, io_layout=io_layout, io_dtype=io_dtype, deployment_target=deployment_target,
            dims=dict(dims or {}), ranges=ranges, weights=weights, metric=metric, engine=engine,
            methods=None if methods is None else list(methods),
        )  # fmt: skip
    say = progress or silent
    named = artifact
    if engine is not None:
        check_runs(engine, named)
    folder = artifact if artifact.suffix == ".web" else None
    if artifact.suffix == ".web":
        artifact = artifact / WEB_MODEL  # what target `onnx` writes
    if artifact.suffix not in ENGINES:
        raise UsageError(f"{artifact.name}: no engine runs this kind of file; known are {', '.join(ENGINES)}")
    target = target_of(None, artifact.with_suffix(".onnx") if artifact.suffix == ".ort" else artifact)
    options = Options(io_layout=io_layout, io_dtype=io_dtype, deployment_target=deployment_target)
    recipe = checked_recipe(compress, ranges, weights, calibrated=calibration is not None, methods=methods)
    say(0.0, f"reading {against.name}")
    work = Work.begin(against, preprocess, dims)
    work.measure = measure_of(metric)
    work.calibration = work.open(calibration)
    samples = work.samples(inputs if inputs is not None else calibration)
    say(0.2, "preparing")
    compressed = work.compressed(recipe, static=target in STATIC_TARGETS)
    model = compressed.model
    options = dataclasses.replace(options, resizing=work.resizing(compressed, target))
    reference = work.reference(samples, progress)
    promise = contract(compress, quantized=is_quantized(work.bound))
    outputs = None
    if promise.against == COMPRESSED or promise.noise_margin_db is not None:
        outputs = work.compressed_outputs(recipe, samples, progress)
    layers = () if artifact.suffix == ".ort" else _layers(work, target, recipe, artifact, options)
    try:
        judged = judge(
            Subject(artifact, target, compress, model, layers, options, promise, engine=engine, folder=folder),
            reference,
            outputs,
            progress,
        )
    except VerificationError as error:
        hints = list(_renamed(artifact, model, options))
        if compress == "fp32" and not layers and artifact.suffix != ".ort":
            hints.append("If it was made by a recipe, name it: --compress RECIPE.")
        raise VerificationError(" ".join((f"{error}.", *hints)) if hints else str(error)) from error
    say(1.0, "done")
    notes = (*judged.edges.renamed(), *judged.verification.notes)
    proof = dataclasses.replace(judged.verification, notes=notes)
    return Checked(str(named), work.facts(), compress, proof, judged.accuracy)


def _renamed(artifact: Path, model: ir.Model, options: Options) -> tuple[str, ...]:
    """Which of the artifact's tensors were taken for which of the model's, where that may be why it failed."""
    try:
        return Edges(open_engine(artifact), model, options).renamed()
    except HaversackError:
        return ()


def _layers(work: Work, target: str, recipe: Recipe, artifact: Path, options: Options) -> tuple[Layer, ...]:
    """The map of an artifact's layers, by making the artifact again.

    The map is not kept in artifacts. Lowering is deterministic, so an artifact of just the size that this model gives
    has the operators that it gives; any other was made otherwise, and its layers are unknown.
    """
    opened = open_target(target)
    try:
        with private_folder() as folder:
            model = work.compressed(recipe, static=target in STATIC_TARGETS).model
            written = opened.write(model, recipe.name, folder / f"again{artifact.suffix}", options)
            same = size(written.path) == size(artifact)
            shutil.rmtree(folder, ignore_errors=True)
            return written.layers if same else ()
    except HaversackError:
        return ()
