"""Packing: every variant of a model, verified and measured, in one bundle.

The source is read once, each recipe is applied once for all targets, and the reference outputs are computed once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from haversack.convert.budget import Budget, budget_of, judge, misses, unjudged
from haversack.convert.bundling import bundle
from haversack.convert.compress.plan import Plan
from haversack.convert.compress.recipes import RangeRule, Recipe, WeightGranularity
from haversack.convert.data.overlap import apart
from haversack.convert.engine_sizes import engine_sizes
from haversack.convert.errors import UnsupportedError, UsageError, VerificationError
from haversack.convert.flexible import Size
from haversack.convert.measured import Accuracy
from haversack.convert.measuring import compared, timed, weighed
from haversack.convert.names import TARGETS, hyperparameters_of
from haversack.convert.outcome import Outcome
from haversack.convert.packed import Made
from haversack.convert.pipeline import (
    STATIC_TARGETS,
    check_recipe,
    checked_plan,
    checked_recipe,
    make,
    part,
)
from haversack.convert.planning import choice
from haversack.convert.planning.planner import Planner, Stages, missing_packages
from haversack.convert.publish import check_output, private_folder, publish, size
from haversack.convert.report import Pack, Skipped, Variant
from haversack.convert.targets import Options, Target, open_target
from haversack.convert.verify.accuracy import measure_of
from haversack.convert.verify.execute import Progress, Samples, silent
from haversack.convert.work import Data, Work
from haversack.runtimes.errors import HaversackError
from haversack.runtimes.preprocess import Preprocess

WITH_CALIBRATION = ("fp32", "fp16", "int8")
WITHOUT_CALIBRATION = ("fp32", "fp16", "int8-weights")

Objective = Literal["size", "wire", "latency"]

TIGHTENED = 3
"""So often a plan is tightened where no artifact of a target keeps the drop that its compressed model kept."""


def pack(
    model: str | Path,
    *,
    to: Sequence[str] = ("tflite", "coreml", "onnx"),
    output: str | Path,
    calibration: Data | None = None,
    evaluation: Data | None = None,
    recipes: Sequence[str] | None = None,
    preprocess: str | Path | Preprocess | None = None,
    max_drop: float | None = None,
    confident: bool = False,
    max_size: int | None = None,
    max_wire: int | None = None,
    max_latency: str | None = None,
    bench: str | Path | None = None,
    metric: str | None = None,
    allow_overlap: bool = False,
    io_layout: Literal["keep", "channels-last"] = "keep",
    io_dtype: Literal["float32", "int8"] = "float32",
    deployment_target: str | None = None,
    dims: Mapping[str, Size] | None = None,
    ranges: RangeRule = "mse",
    weights: WeightGranularity = "auto",
    objective: Objective | None = None,
    plan: str | Path | Plan | None = None,
    cache: str | Path | None = None,
    jobs: int | None = None,
    verify: bool = True,
    training_data: str | None = None,
    code_commit: str | None = None,
    hyperparameters: str | Mapping[str, str | int | float | bool] | None = None,
    force: bool = False,
    isolate: bool = False,
    progress: Progress | None = None,
) -> Pack:
    """Make every variant of a model, execute each against the source, measure, and write one bundle.

    Args:
        model: As for `convert`.
        to: Targets.
        output: The bundle, `*.haversack`.
        calibration: DATA for int8; without it the bundle holds float and weights-only variants.
        evaluation: DATA with labels: accuracy is measured on it, and everything is verified on it.
        recipes: What to make for each target; by default fp32, fp16 and int8 (int8-weights without calibration).
        preprocess: How images in DATA become inputs; travels in the manifest.
        max_drop: Accuracy that a variant may lose against the source, in percentage points, by the measured
            difference.
        confident: Judge it by the bound of the difference's 95 % interval instead.
        max_size: Bytes that an artifact may have, the engine in a web artifact aside.
        max_wire: Bytes that it may have as one brotli stream; the engine aside likewise.
        max_latency: Median time of a call with one sample, such as `2ms` here or `2ms@pi4` on another device.
        metric: What of the evaluation data accuracy means, by default `top1`; see `verify.metrics`.
        allow_overlap: Calibrate on evaluation samples too, which are left out otherwise.
        bench: That device's latencies, as `haversack bench --json` writes them there.
        io_layout: `keep`, or `channels-last` at inputs and outputs (TFLite).
        io_dtype: `float32`, or `int8` at the edges of int8 variants.
        deployment_target: The oldest system a Core ML package must run on.
        dims: Sizes of symbolic dimensions to fix, by name.
        ranges: How int8 chooses an activation's range.
        weights: One scale a channel, one a tensor, or what measures better.
        objective: What to be best at within the budget: `size` on disk, `wire` (bytes of a download), `latency`; None:
            all of them.
        plan: A plan to follow as well, instead of searching for one.
        cache: A folder that keeps what the search measured, so that a search that was stopped goes on where it was;
            None: nothing is kept.
        jobs: Processes that the search may use; None: one a core.
        verify: Execute and measure; otherwise every variant says `verified: false`.
        training_data: Provenance, in the user's words.
        code_commit: Provenance likewise.
        hyperparameters: Provenance likewise: a mapping, a JSON object, or `key=value` pairs with commas between them.
        force: Replace an existing bundle.
        isolate: Do it in a fresh process with limits.
        progress: Hears how far it is.

    Returns:
        What was made, measured and left out. Where a target has no variant within the budget, `over` says so with what
        was measured, and no bundle is written.

    Raises:
        UsageError: An option, a path or data cannot be meant.
        HaversackError: No target can hold the model; every reason is in it.
        VerificationError: An artifact does not keep its recipe's contract; nothing was published.
    """
    source_path, path = Path(model), Path(output)
    if isolate:
        from haversack.convert import isolated

        return isolated.pack(
            source_path, output=path, force=force, progress=progress, to=list(to), calibration=calibration,
            evaluation=evaluation, recipes=None if recipes is None else list(recipes), preprocess=preprocess,
            max_drop=max_drop, confident=confident, max_size=max_size, max_wire=max_wire, max_latency=max_latency,
            bench=None if bench is None else Path(bench), metric=metric, allow_overlap=allow_overlap,
            io_layout=io_layout, io_dtype=io_dtype,
            deployment_target=deployment_target, dims=dict(dims or {}), ranges=ranges, weights=weights,
            objective=objective, plan=plan, cache=None if cache is None else Path(cache), jobs=jobs, verify=verify,
            training_data=training_data, code_commit=code_commit, hyperparameters=hyperparameters,
        )  # fmt: skip
    say = progress or silent
    check_output(path, force=force)
    settings = hyperparameters_of(hyperparameters)
    budget = budget_of(max_drop, max_size, max_wire, max_latency, bench, confident=confident)
    if budget.max_latency is not None and budget.device is None and not verify:
        raise UsageError("--max-latency needs verification: latency is measured where the artifacts are executed")
    if max_drop is not None and (evaluation is None or not verify):
        raise UsageError("--max-drop needs --evaluation DATA and verification: accuracy must be measured")
    measure = measure_of(metric, max_drop)
    targets = [open_target(name) for name in to]
    wanted = tuple(recipes) if recipes is not None else WITH_CALIBRATION if calibration else WITHOUT_CALIBRATION
    chosen = [checked_recipe(name, ranges, weights, calibrated=calibration is not None) for name in wanted]
    given = None if plan is None else Plan.open(plan)
    planner: Planner | None = None
    searching = given is None and recipes is None and calibration is not None and verify
    searching = searching and (bool(budget) or objective is not None)
    missing = missing_packages() if searching else ()
    searching = searching and not missing
    stages = Stages()

    say(0.0, f"reading {source_path.name}")
    work = Work.begin(source_path, preprocess, dims)
    work.calibration = work.open(calibration)
    samples = work.samples(evaluation if evaluation is not None else calibration) if verify else None
    shared = ""
    if work.calibration is not None and evaluation is not None and samples is not None and not allow_overlap:
        work.calibration, shared = apart(work.calibration, samples.hashes, samples.description)
    work.measure = measure
    if measure.asked and samples is not None:
        work.reference(samples, part(say, 0.0, 0.1))

    io = io_options(io_layout, io_dtype, deployment_target)
    every = [(recipe, tuple(target.name for target in targets)) for recipe in chosen]
    if given is not None:
        every.append(
            (
                Recipe.of(checked_plan(given, work, calibrated=calibration is not None)),
                tuple(target.name for target in targets),
            )
        )
    with private_folder(beside=path) as private:
        with stages.timed("making and verifying recipes"):
            made, skipped = _variants(work, targets, every, io, samples, private, part(say, 0.1, 0.3))
        if searching and samples is not None:
            planner = Planner(work, samples, budget, None if cache is None else Path(cache), jobs, stages)
            planned = planner.plans(objective, [target.name for target in targets], part(say, 0.3, 0.7))
            with stages.timed("making and verifying plans"):
                failed: set[tuple[str, str]] = set()
                for step in range(TIGHTENED + 1):
                    more, refused = _variants(
                        work, targets, planned, io, samples, private, part(say, 0.7, 0.85), planned=True
                    )
                    every, made, skipped = every + planned, made + more, skipped + refused
                    failed |= {(skip.target, skip.compression) for skip in refused if skip.broken}
                    done = [each.variant for each in made]
                    planned = []
                    if step < TIGHTENED:
                        planned = planner.tighter(done, to) or planner.between(done, to, failed)
                    if not planned:
                        break
        if not made:
            raise _none(skipped)
        if verify:
            say(0.85, "measuring latency")
            with stages.timed("measuring latency"):
                made = timed(made, samples)
        source_accuracy = _source_accuracy(work, samples)
        if max_wire is not None or objective == "wire":
            made = [weighed(each) for each in made]
        budgets = {_key(each.variant): judge(each.variant, budget) for each in made} if budget else {}
        over = misses([each.variant for each in made], to, budget)
        say(0.95, "writing the bundle")
        measured = [each.variant for each in made]
        tried = () if planner is None else planner.report({variant.compression for variant in measured})
        outcome = Outcome(
            max_drop=budget.max_drop,
            confident=budget.confident,
            max_size=budget.max_size,
            max_wire=budget.max_wire,
            max_latency=budget.max_latency,
            device=budget.device,
            objective=objective,
            best=choice.best(measured, budget, objective),
            front=choice.fronts(measured),
            tried=tried,
            relaxing=choice.relaxing(measured, budget, tried),
            stages={name: round(seconds, 2) for name, seconds in stages.seconds.items()},
            engines=engine_sizes([target.name for target in targets]),
        )
        origin = {"training_data": training_data, "code_commit": code_commit, "hyperparameters": settings}
        manifest = bundle(
            private / path.name,
            work,
            made,
            [recipe for recipe, _ in every],
            samples,
            evaluation is not None,
            source_accuracy,
            skipped,
            origin,
            outcome,
        )
        variants = tuple(
            dataclasses.replace(each.variant, path=entry.file.path)
            for each, entry in zip(made, manifest.variants, strict=True)
        )
        variants = compared(variants)
        total = size(private / path.name)
        if not over:
            publish([(private / path.name, path)], force=force)
    say(1.0, "done")
    return Pack(
        model=work.facts(),
        path="" if over else str(path),
        bytes=total,
        variants=variants,
        skipped=tuple(skipped),
        source_accuracy=source_accuracy,
        within={key: all(each.met for each in judged) for key, judged in budgets.items()},
        budgets=budgets,
        over=over,
        best=outcome.best,
        front=outcome.front,
        tried=outcome.tried,
        relaxing=outcome.relaxing,
        engines=outcome.engines,
        stages=outcome.stages,
        notes=_notes(shared, variants, budget),
        advice=_advice(calibration, evaluation, samples, missing),
    )


def io_options(
    io_layout: Literal["keep", "channels-last"], io_dtype: Literal["float32", "int8"], deployment_target: str | None
) -> dict[tuple[str, bool], Options]:
    """What each (target, is int8) is asked for: only what concerns it, so that one wish does not refuse the others."""
    return {
        (target, quantized): Options(
            io_layout=io_layout if target == "tflite" else "keep",
            io_dtype=io_dtype if quantized and target != "coreml" else "float32",
            deployment_target=deployment_target if target == "coreml" else None,
        )
        for target in TARGETS
        for quantized in (False, True)
    }


def _variants(
    work: Work,
    targets: Sequence[Target],
    recipes: Sequence[tuple[Recipe, tuple[str, ...]]],
    options: dict[tuple[str, bool], Options],
    samples: Samples | None,
    private: Path,
    progress: Progress,
    *,
    planned: bool = False,
) -> tuple[list[Made], list[Skipped]]:
    """Make and verify each recipe for its targets; what a target refuses is skipped with its reason."""
    made: list[Made] = []
    skipped: list[Skipped] = []
    pairs = [(recipe, target) for recipe, names in recipes for target in targets if target.name in names]
    for count, (recipe, target) in enumerate(pairs):
        name = f"{target.name} {recipe.name}"
        step = part(progress, count / len(pairs), (count + 1) / len(pairs))
        step(0.0, name)
        asked = options[target.name, recipe.family == "int8"]
        try:
            check_recipe(target, recipe.family, work, asked)
            compressed = work.compressed(recipe, static=target.name in STATIC_TARGETS, progress=part(step, 0.0, 0.3))
            folder = private / f"{target.name}-{recipe.name}"
            folder.mkdir()
            path = folder / f"{work.source.name}-{recipe.name}{target.suffix}"
            made.append(make(work, target, recipe, compressed, path, asked, samples, part(step, 0.3, 1.0)))
        except (UnsupportedError, UsageError) as error:
            skipped.append(Skipped(target.name, recipe.name, str(error)))
        except VerificationError as error:
            if not planned:  # a recipe that breaks its contract is a defect; of plans there are others
                raise
            skipped.append(Skipped(target.name, recipe.name, str(error), broken=True))
    return made, skipped


def _none(skipped: Sequence[Skipped]) -> HaversackError:
    reasons = "; ".join(f"{skip.target} {skip.compression}: {skip.reason}" for skip in skipped)
    return HaversackError(f"nothing could be made: {reasons}")


def _source_accuracy(work: Work, samples: Samples | None) -> Accuracy | None:
    if samples is None or samples.labels is None:
        return None
    reference = work.reference(samples)
    return reference.measured(reference.source)


def _key(variant: Variant) -> str:
    return f"{variant.target}/{variant.compression}"


def _notes(shared: str, variants: Sequence[Variant], budget: Budget) -> tuple[str, ...]:
    notes = [shared] if shared else []
    elsewhere = dict.fromkeys(variant.target for variant in variants if unjudged(variant, budget))
    if elsewhere:
        targets = ", ".join(elsewhere)
        notes.append(
            f"--max-latency is about this machine, where {targets} is only emulated, so its latency was not judged; "
            "name a device and its measurements: --max-latency 2ms@NAME --bench NAME.json"
        )
    return tuple(notes)


def _advice(
    calibration: Data | None, evaluation: Data | None, samples: Samples | None, missing: Sequence[str]
) -> tuple[str, ...]:
    advice = []
    if missing:
        advice.append(f"pip install 'haversack[search]' lets pack search for plans; {' and '.join(missing)} not here")
    if calibration is None:
        advice.append("--calibration DATA, a hundred real inputs without labels, gives int8 variants")
    if evaluation is None:
        advice.append("--evaluation DATA, inputs with labels, gives accuracies and their differences")
    if samples is not None and samples.synthetic:
        advice.append("everything was verified on made-up inputs; real ones say more")
    return tuple(advice)
