"""`haversack doctor`: what it is asked, before the consultation begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from haversack.convert.compress.plan import Plan
from haversack.convert.compress.recipes import RangeRule, Recipe, WeightGranularity
from haversack.convert.data.overlap import apart
from haversack.convert.diagnosis import Cause, Diagnosis, Harm
from haversack.convert.doctor import causes as why
from haversack.convert.doctor.consultation import Consultation
from haversack.convert.errors import UsageError
from haversack.convert.flexible import Size
from haversack.convert.pipeline import check_recipe, checked_recipe
from haversack.convert.targets import Options, open_target
from haversack.convert.verify.accuracy import measure_of
from haversack.convert.verify.execute import Progress, silent
from haversack.convert.work import Data, Work
from haversack.runtimes.preprocess import Preprocess


def diagnose(
    model: str | Path,
    *,
    compress: str = "int8",
    calibration: Data | None = None,
    evaluation: Data | None = None,
    preprocess: str | Path | Preprocess | None = None,
    to: str | None = None,
    dims: Mapping[str, Size] | None = None,
    ranges: RangeRule = "mse",
    weights: WeightGranularity = "auto",
    methods: Sequence[str] | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    allow_overlap: bool = False,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say why a compressed model is less accurate than the model, and find the cheapest repair.

    Args:
        model: An `.onnx`, `.tflite`, `.keras` or `.h5` file, or a SavedModel folder.
        compress: The recipe, or the path of a plan (`.json`).
        calibration: DATA that ranges are taken from and that every part is measured on.
        evaluation: DATA, with labels, that the whole is judged on; its labels choose nothing else.
        preprocess: How images in DATA become inputs.
        to: A target: repairs that it cannot have are not tried, and both artifacts are made, executed and measured.
        dims: Sizes of symbolic dimensions to fix, by name.
        ranges: How int8 chooses an activation's range.
        weights: One scale a channel, one a tensor, or what measures better.
        methods: What int8 does beyond rounding to the nearest: names of `compress.methods`; None: the default ones.
        metric: What accuracy means, by default `top1`.
        max_drop: What may be lost, by default 1 point.
        allow_overlap: Calibrate on evaluation samples too.
        progress: Hears a fraction and a phrase.

    Raises:
        UsageError: An option or data cannot be meant, or there is nothing to examine.
        UnsupportedError: The target cannot hold the model.
    """
    say = progress or silent
    path = Path(model)
    if compress == "fp32":
        raise UsageError("fp32 loses nothing: say --compress int8, fp16, int4-weights or whichever recipe does")
    plan = Plan.read(Path(compress)) if compress.endswith(".json") else None
    if calibration is None:
        raise UsageError("the doctor measures on real inputs: give --calibration DATA, a hundred of them")
    recipe = (
        Recipe.of(plan)
        if plan is not None
        else checked_recipe(compress, ranges, weights, calibrated=True, methods=methods)
    )
    say(0.0, f"reading {path.name}")
    work = Work.begin(path, preprocess, dims)
    work.calibration = work.open(calibration)
    work.measure = measure_of(metric, max_drop)
    allowed = work.measure.allowed
    if allowed is None:
        raise UsageError(f"--metric {metric} has a unit of its own: say how much may be lost with --max-drop")
    if sick := why.broken(work.sized):
        return _broken(work, recipe, sick, allowed)
    assert work.calibration is not None
    samples = work.samples(evaluation if evaluation is not None else calibration)
    notes: list[str] = []
    if evaluation is not None and not allow_overlap:
        work.calibration, shared = apart(work.calibration, samples.hashes, samples.description)
        notes += [shared] if shared else []
    if to is not None:
        target = open_target(to)
        check_recipe(target, recipe.family, work, Options())
    consultation = Consultation(work, recipe, samples, evaluation is not None, allowed, notes, to)
    return consultation.run(say)


def _broken(work: Work, recipe: Recipe, found: Sequence[Cause], allowed: float) -> Diagnosis:
    layers = ", ".join(cause.where for cause in found[:3])
    return Diagnosis(
        model=work.facts(),
        compression=recipe.name,
        healthy=False,
        repaired=False,
        verdict=f"{work.source.name}: the float model itself is broken: NaN or infinite weights in {layers}",
        allowed=allowed,
        harm=Harm(0.0, "", 0.0),
        causes=tuple(found),
        advice=("no compression repairs that: take an earlier checkpoint, or train again with gradients clipped",),
    )


__all__ = ["diagnose"]
