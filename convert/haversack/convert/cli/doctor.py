"""`haversack doctor`: why a compressed model is less accurate, and the cheapest repair."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.diagnosis import Diagnosis

EXAMPLES = (
    "Examples:  haversack doctor model.onnx --compress int8 --calibration calib.npz --evaluation eval.npz --plan "
    "repaired.json   |   haversack doctor model.h5 --compress int4-weights --calibration images.zip "
    "--preprocess imagenet --report report.html"
)


def command(
    model: options.Model,
    compress: Annotated[
        str, typer.Option("--compress", metavar="RECIPE", help="The recipe that loses too much, or a plan (.json).")
    ] = "int8",
    calibration: options.Calibration = None,
    evaluation: options.Evaluation = None,
    preprocess: options.Preprocess = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TARGET", help="Deliver for tflite, coreml or onnx: both artifacts are executed."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="HTML", help="Write a page with a plot of each layer.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="JSON", help="Write the repair, for convert and pack to follow with --plan."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", metavar="POINTS", min=0.0, help="What may be lost; default: 1 point."),
    ] = None,
    metric: options.Metric = None,
    dim: options.Dims = None,
    ranges: options.Ranges = "mse",
    weights: options.Weights = "auto",
    methods: options.Methods = None,
    allow_overlap: options.AllowOverlap = False,
    force: options.Force = False,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Say why MODEL loses accuracy when it is compressed: the causes, and the cheapest repair, tried and measured.

    Exit 0: the model is healthy, or the repair brings it within --max-drop. Exit 1: nothing that was tried does.
    """
    from haversack.convert import isolated
    from haversack.convert.doctor import page, told
    from haversack.convert.errors import UsageError
    from haversack.convert.names import check_metric, check_options, dims_of, methods_of, target_of

    target = None if to is None else target_of(to, None)
    recipe = "fp32" if compress.endswith(".json") else compress
    check_options(target or "tflite", recipe, calibration, "keep", "float32", None, ranges, weights)
    check_metric(metric or "top1")
    if calibration is None:
        raise UsageError("the doctor measures on real inputs: give --calibration DATA, a hundred of them")

    def prescribed(found: Diagnosis) -> Diagnosis:
        said = None if preprocess is None else str(preprocess)
        written = None if plan is None else str(plan)
        steps = told.commands(found, str(model), calibration, evaluation, said, target, written)
        return dataclasses.replace(found, commands=steps)

    written = {} if report is None else {report: lambda found: page.page(prescribed(found))}
    if plan is not None:
        written[plan] = lambda found: found.plan
    with show.progress() as progress:
        found = isolated.doctor(
            model,
            written=written,
            force=force,
            compress=compress,
            calibration=calibration,
            evaluation=evaluation,
            preprocess=preprocess,
            to=target,
            dims=dims_of(dim or ()),
            ranges=ranges,
            weights=weights,
            methods=methods_of(methods),
            metric=metric,
            max_drop=max_drop,
            allow_overlap=allow_overlap,
            limits=options.limits(timeout, memory),
            progress=progress,
        )
    found = prescribed(found)
    if json:
        show.as_json(found)
    else:
        print(told.text(found))
    return 0 if found.healthy or found.repaired else 1
