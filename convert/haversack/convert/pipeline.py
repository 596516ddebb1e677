"""The way of a model to one artifact: read, compress, preflight, lower, execute and compare, publish.

Each stage is one call below; `packing.py` takes the same stages for many variants and shares what they have in common.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from haversack.convert.compress import Compressed, is_quantized
from haversack.convert.compress.methods import checked
from haversack.convert.compress.plan import Plan
from haversack.convert.compress.recipes import RECIPES, RangeRule, Recipe, WeightGranularity
from haversack.convert.errors import Blocker, UnsupportedError, UsageError, VerificationError
from haversack.convert.flexible import Size
from haversack.convert.hub.shapes import symbols
from haversack.convert.image_inputs import images_of
from haversack.convert.measured import Verification
from haversack.convert.names import default_output, target_of
from haversack.convert.packed import Made
from haversack.convert.publish import check_output, private_folder, publish, size
from haversack.convert.report import Conversion, Variant
from haversack.convert.targets import Completes, Options, Proof, Target, Written, open_target
from haversack.convert.verify.accuracy import measure_of
from haversack.convert.verify.contract import COMPRESSED, contract
from haversack.convert.verify.edges import Edges
from haversack.convert.verify.execute import Progress, Samples, silent
from haversack.convert.verify.judge import Subject, judge, unverified
from haversack.convert.verify.saturation import portable
from haversack.convert.wire import brotli_size, gzip_size
from haversack.convert.work import Data, Work
from haversack.runtimes.digest import path_sha256
from haversack.runtimes.engines import ENGINES, open_engine
from haversack.runtimes.preprocess import Preprocess

STATIC_TARGETS = frozenset({"tflite", "coreml"})
"""Targets that are given static shapes: the batch bound to 1, other symbolic dimensions to a default size."""

INTEGER = ("int8", "int16")
"""Recipes whose activations are integers."""

RESIZABLE_TARGETS = frozenset({"tflite"})
"""Those of them whose artifacts take other sizes at run time unasked."""


def convert(
    model: str | Path,
    *,
    to: str | None = None,
    compress: str = "fp32",
    calibration: Data | None = None,
    output: str | Path | None = None,
    preprocess: str | Path | Preprocess | None = None,
    io_layout: Literal["keep", "channels-last"] = "keep",
    io_dtype: Literal["float32", "int8"] = "float32",
    deployment_target: str | None = None,
    dims: Mapping[str, Size] | None = None,
    image_inputs: Sequence[str] = (),
    states: Mapping[str, str] | None = None,
    ranges: RangeRule = "mse",
    weights: WeightGranularity = "auto",
    methods: Sequence[str] | None = None,
    plan: str | Path | Plan | None = None,
    verify: bool = True,
    inputs: Data | None = None,
    metric: str | None = None,
    force: bool = False,
    isolate: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert one model to one artifact, and execute it against its source before it is published.

    Args:
        model: An `.onnx`, `.tflite`, `.keras`, `.h5` or `.skops` file, or a SavedModel folder.
        to: `tflite`, `coreml`, `onnx` or `web`; None: what `output`'s suffix says.
        compress: A recipe, one of `compress.recipes.RECIPES`: `fp32`, `fp16`, `int8`, `int8-weights`, `palette4`, …
        calibration: DATA for `int8`: what the activations' ranges are taken from. int4 weights, palettes and pruning
            are far better with it.
        output: The artifact; by default the model's name with the target's suffix, in the current folder. For `web`
            a folder of any name, or an `.html`, which then holds everything.
        preprocess: How images in DATA become inputs: a preset, a file, or a `Preprocess`.
        io_layout: `keep` the model's axis order at inputs and outputs, or `channels-last`.
        io_dtype: `float32` or `int8` at the edges of an int8 artifact.
        deployment_target: The oldest system a Core ML package must run on.
        dims: Sizes of symbolic dimensions to fix, by name, such as `{"batch": 1}`; for Core ML also several, as the
            text `1..8` or `16,32,64`.
        image_inputs: Inputs that a Core ML package takes as images: `NAME`, then as `preprocess` makes them of pixels,
            or `NAME=rgb,scale=0.0078,bias=-1`.
        states: Inputs that a Core ML package keeps from call to call, each with the output that is left in it.
        ranges: How int8 chooses an activation's range.
        weights: One scale a channel, one a tensor, or what measures better.
        methods: What int8 does beyond rounding to the nearest: names of `compress.methods`; None: the default ones.
        plan: Says the precision of each layer, in the place of `compress`: a `Plan`, its JSON, or a file.
        verify: Execute the artifact and compare; otherwise the result says `verified: false`.
        inputs: DATA to verify on; by default the calibration data, without it seeded made-up inputs.
        metric: What of those inputs accuracy means, by default `top1`; see `verify.metrics`.
        force: Replace an existing output.
        isolate: Do all this in a fresh process with limits, for files that are not trusted.
        progress: Hears a fraction and a phrase.

    Returns:
        What was made and measured.

    Raises:
        UsageError: An option, a path or data cannot be meant.
        UnsupportedError: The target cannot hold the model; every reason is in it.
        VerificationError: The artifact does not keep its recipe's contract; nothing was published.
    """
    source_path = Path(model)
    target_name = target_of(to, None if output is None else Path(output))
    path = Path(output) if output is not None else default_output(source_path, target_name)
    if isolate:
        from haversack.convert import isolated

        return isolated.convert(
            source_path, output=path, force=force, progress=progress, to=target_name, compress=compress,
            calibration=calibration, preprocess=preprocess, io_layout=io_layout, io_dtype=io_dtype,
            deployment_target=deployment_target, dims=dict(dims or {}),
            image_inputs=list(image_inputs), states=dict(states or {}), ranges=ranges, weights=weights,
            methods=None if methods is None else list(methods), plan=plan, verify=verify, inputs=inputs, metric=metric,
        )  # fmt: skip
    say = progress or silent
    check_output(path, force=force)
    if path.exists() and path.resolve() == source_path.resolve():
        raise UsageError(f"the output is the model itself: {path}")
    given = None if plan is None else Plan.open(plan)
    if given is not None and compress != "fp32":
        raise UsageError(
            f"--plan says how each layer is held, and so does --compress {compress}: leave one of them out"
        )
    recipe = (
        checked_recipe(compress, ranges, weights, calibrated=calibration is not None, methods=methods)
        if given is None
        else Recipe.of(given)
    )
    options = Options(io_layout=io_layout, io_dtype=io_dtype, deployment_target=deployment_target)

    say(0.0, f"reading {source_path.name}")
    work = Work.begin(source_path, preprocess, dims)
    work.measure = measure_of(metric)
    if work.flexible and target_name != "coreml":
        name, sizes = next(iter(work.flexible.items()))
        takes = "leaves dimensions free that are not fixed" if target_name in RESIZABLE_TARGETS else "keeps the model's"
        raise UsageError(f"--dim {name}={sizes}: several sizes are for coreml; {target_name} {takes}, leave it out")
    work.images = images_of(image_inputs, work.preprocess, work.bound)
    if image_inputs and (target_name != "coreml" or work.flexible):
        why = "several sizes of --dim and images" if target_name == "coreml" else f"{target_name} and images"
        raise UsageError(f"--image-input {image_inputs[0]}: {why} do not go together; image inputs are Core ML's")
    if states and (target_name != "coreml" or work.flexible):
        why = "several sizes of --dim and states" if target_name == "coreml" else f"{target_name} and states"
        raise UsageError(f"--state {next(iter(states))}: {why} do not go together; states are Core ML's")
    options = dataclasses.replace(options, images=work.images, states=dict(states or {}))
    target = open_target(target_name)
    check_recipe(target, recipe.family, work, options)
    calibrating = work.open(calibration)
    if given is not None:
        checked_plan(given, work, calibrated=calibrating is not None)
    samples = work.samples(inputs if inputs is not None else calibration) if verify else None

    if recipe.family in INTEGER:  # What cannot be lowered is said before the calibration, not after it.
        say(0.15, f"asking {target.name}")
        refuse_blockers(target, work.sized, "fp32", dataclasses.replace(options, io_dtype="float32"))
    say(0.2, f"compressing to {recipe.name}" if recipe.name != "fp32" else "preparing")
    work.calibration = calibrating
    compressed = work.compressed(recipe, static=target.name in STATIC_TARGETS, progress=part(say, 0.2, 0.4))

    say(0.4, f"lowering to {target.name}")
    with private_folder(beside=path) as private:
        made = make(work, target, recipe, compressed, private / path.name, options, samples, part(say, 0.4, 1.0))
        files = [(each, path.parent / each.name) for each in (made.written.path, *made.written.companions)]
        publish(files, force=force)
    say(1.0, "done")
    return Conversion(work.facts(), dataclasses.replace(made.variant, path=str(path)))


def checked_recipe(
    name: str,
    ranges: RangeRule,
    weights: WeightGranularity,
    *,
    calibrated: bool,
    methods: Sequence[str] | None = None,
) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: There is none, or it needs calibration data and there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown compression {name!r}; known are {', '.join(RECIPES)}")
    if name in INTEGER and not calibrated:
        raise UsageError(
            f"{name} needs --calibration DATA, a hundred real inputs, to learn the activations' ranges; "
            "int8-weights needs none"
        )
    if name == "int16":
        return Recipe.of(
            Plan("int16", arithmetic="int16", ranges=ranges, methods=checked(methods, calibrated=calibrated))
        )
    if methods is not None and name != "int8":
        raise UsageError(f"--methods is for int8; {name} rounds as well as it can by itself, leave it out")
    return Recipe(name, ranges, weights, methods=None if methods is None else checked(methods, calibrated=calibrated))


def checked_plan(plan: Plan, work: Work, *, calibrated: bool) -> Plan:
    """The plan, held against the model that it is for.

    Raises:
        UsageError: It was made for another model, or integers are wanted without calibration data.
    """
    if plan.model and plan.model != work.source.sha256:
        raise UsageError(
            f"the plan {plan.name} was made for another model ({plan.model[:12]}…, this one is "
            f'{work.source.sha256[:12]}…); clear its "model" to use it all the same'
        )
    if plan.arithmetic in INTEGER and not calibrated:
        raise UsageError(f"the plan {plan.name} computes in {plan.arithmetic}: give --calibration DATA")
    return plan


def check_recipe(target: Target, recipe: str, work: Work, options: Options) -> None:
    """Refuse a recipe that the target does not have, with the target's own reason and remedy.

    Raises:
        UnsupportedError: It is not in `target.recipes`, or the target needs sizes that the model leaves open.
    """
    if blockers := open_dimensions(target.name, work):
        raise UnsupportedError(target.name, blockers)
    if recipe not in target.recipes:
        known = Blocker(recipe, "recipe", f"{target.name} has no such recipe", f"use {', '.join(target.recipes)}")
        raise UnsupportedError(target.name, target.preflight(work.bound, recipe, options) or [known])


def open_dimensions(target: str, work: Work) -> list[Blocker]:
    """The symbolic dimensions beside the batch that have no size, for a target that needs to know all."""
    if target not in STATIC_TARGETS - RESIZABLE_TARGETS:
        return []
    return [
        Blocker(
            name,
            "dimension",
            "its size is not fixed",
            f"fix it with --dim {name}=SIZE, or give several: --dim {name}=16,32,64 or --dim {name}=1..64",
        )
        for name in symbols(work.bound)
        if name not in work.flexible
    ]


def refuse_blockers(target: Target, model: ir.Model, recipe: str, options: Options) -> None:
    """Refuse a model that the target cannot hold.

    Raises:
        UnsupportedError: With every reason.
    """
    blockers = target.preflight(model, recipe, options)
    if blockers:
        raise UnsupportedError(target.name, blockers)


def make(
    work: Work,
    target: Target,
    recipe: Recipe,
    compressed: Compressed,
    path: Path,
    options: Options,
    samples: Samples | None,
    progress: Progress,
) -> Made:
    """Lower, write, execute and compare one artifact.

    Args:
        work: The model.
        target: Where to.
        recipe: Which compression.
        compressed: The hub graph after it.
        path: The artifact, in a private folder.
        options: What the user asked of the target.
        samples: What to execute on; None for an artifact that is not verified.
        progress: Hears how far it is.

    Raises:
        UnsupportedError: The target cannot hold the model.
        VerificationError: The artifact does not keep its recipe's contract.
    """
    options = dataclasses.replace(options, resizing=work.resizing(compressed, target.name))
    if target.name == "coreml" and recipe.plan is not None and recipe.family.endswith("fp16"):
        # What float16 loses in the unplanned package it loses here too: that need not be found out again.
        options = dataclasses.replace(options, float32_nodes=work.float32_nodes)
    written = target.write(compressed.model, recipe.family, path, options)
    if options.float32_nodes:
        kept = f"{len(options.float32_nodes)} layers compute in float32, as in the float16 package."
        written = dataclasses.replace(written, notes=(*written.notes, kept))
    variant = describe(target, recipe, written, compressed)
    if samples is None:
        made = Made(variant, written, lambda: Edges(open_engine(written.model), compressed.model, options))
    else:
        made = verified(work, target, recipe, written, options, samples, variant, progress)
    return completed(work, target, recipe, made, samples) if isinstance(target, Completes) else made


def describe(target: Target, recipe: Recipe, written: Written, compressed: Compressed) -> Variant:
    """What an artifact is before anything has executed it."""
    return Variant(
        target=target.name,
        compression=recipe.name,
        path=str(written.path),
        companions=tuple(path.name for path in written.companions),
        bytes=size(written.path),
        # What `completed` makes anew is measured there: its engine alone takes seconds.
        gzip_bytes=None if isinstance(target, Completes) else gzip_size(written.path),
        brotli_bytes=None if isinstance(target, Completes) else brotli_size(written.path),
        sha256=path_sha256(written.path),
        verification=unverified(),
        notes=(*compressed.notes, *written.notes),
        min_runtime=written.min_runtime,
        transposes=written.transposes,
        moved=written.moved,
        deployment=written.deployment,
    )


def verified(
    work: Work,
    target: Target,
    recipe: Recipe,
    written: Written,
    options: Options,
    samples: Samples,
    variant: Variant,
    progress: Progress,
) -> Made:
    """Execute an artifact against its source.

    Raises:
        VerificationError: It does not keep its recipe's contract.
    """
    promise = contract(recipe.family, quantized=is_quantized(work.bound))
    reference = work.reference(samples, part(progress, 0.0, 0.4))
    outputs = None
    if promise.against == COMPRESSED or promise.noise_margin_db is not None:
        outputs = work.compressed_outputs(recipe, samples, part(progress, 0.4, 0.6))
    static = target.name in STATIC_TARGETS
    model = work.compressed(recipe, static=static).model
    subject = Subject(
        written.model, target.name, recipe.family, model, written.layers, options, promise, name=recipe.name
    )
    try:
        judged = judge(subject, reference, outputs, part(progress, 0.6, 1.0))
    except VerificationError as failure:
        if target.name != "coreml" or not recipe.family.endswith("fp16"):
            raise
        from haversack.convert.verify.float16 import repair

        written, judged, work.float32_nodes = repair(
            target, subject, reference, outputs, failure, part(progress, 0.6, 1.0), work.float32_nodes
        )
        variant = describe(target, recipe, written, work.compressed(recipe, static=static))
    for companion in written.companions:
        if companion.suffix in ENGINES:
            # The same graph in another format, whose layers nothing can look into: held to the contract end to end.
            judge(dataclasses.replace(subject, path=companion, layers=()), reference, outputs)
    notes = (*variant.notes, *reference.notes, *work.source.notes)
    if target.name == "onnx" and recipe.family == "int8":
        notes += portable(model, samples)
    measured = dataclasses.replace(variant, verification=judged.verification, accuracy=judged.accuracy, notes=notes)
    return Made(measured, written, lambda: judged.edges)


def completed(work: Work, target: Completes, recipe: Recipe, made: Made, samples: Samples | None) -> Made:
    """Have a target put what was found out into its artifact, and measure the artifact as it is now."""
    from haversack.convert.bundling import artifact_golden, class_labels, fitted, tolerance

    golden = [] if samples is None else artifact_golden(made.edges, samples)
    inputs = tuple(edge.spec for edge in made.edges.inputs)
    proof = Proof(
        name=work.source.name,
        recipe=made.variant.compression,
        source_sha256=work.source.sha256,
        inputs=inputs,
        outputs=tuple(edge.spec for edge in made.edges.outputs),
        verification=made.variant.verification,
        golden=golden,
        tolerance=tolerance(made, recipe.family, golden),
        labels=class_labels(work, samples),
        preprocess=fitted(work.preprocess, inputs),
    )
    parts = target.complete(made.written, proof)
    path = made.written.path
    verification = made.variant.verification
    if samples is not None and made.written.inside is not None:
        verification = in_browser(made, samples)
    brotlis = [part.brotli_bytes for part in parts]
    variant = dataclasses.replace(
        made.variant,
        bytes=size(path),
        gzip_bytes=sum(part.gzip_bytes for part in parts),
        brotli_bytes=None if None in brotlis else sum(each or 0 for each in brotlis),
        sha256=path_sha256(path),
        parts=parts,
        verification=verification,
    )
    return Made(variant, made.written, lambda: made.edges)


def in_browser(made: Made, samples: Samples) -> Verification:
    """Execute a web folder in Chromium too, where there is one; what is known of it then.

    Raises:
        VerificationError: It computes something else there.
    """
    from haversack.convert.verify import in_chromium
    from haversack.convert.verify.native import sentences

    assert made.written.inside is not None
    known = made.variant.verification
    edges = made.edges
    feeds = [edges.feeds(sample) for sample in in_chromium.spread(samples)]
    found = in_chromium.execute(made.written.inside.parent, edges.engine, feeds)
    if isinstance(found, str):
        return dataclasses.replace(known, notes=(*known.notes, f"It was not executed in a browser: {found}."))
    by = f"{known.by} and {found.runtime} in {found.chromium}"
    return dataclasses.replace(known, by=by, notes=(*known.notes, *sentences(found)))


def part(progress: Progress, start: float, stop: float) -> Progress:
    """Progress of one stage as a part of the whole."""
    return lambda fraction, phrase: progress(start + (stop - start) * fraction, phrase)
