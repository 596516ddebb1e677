"""`haversack verify`: an artifact that exists already, executed against a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haversack.convert.cli import options, show

EXAMPLES = (
    "Examples:  haversack verify model.tflite --against model.onnx --inputs eval.npz   |   "
    "haversack verify m.onnx --against model.onnx --engine browser"
)


def command(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A .tflite, .onnx, .ort, .mlpackage or .web.")],
    against: Annotated[Path, typer.Option("--against", metavar="MODEL", help="The model that it was made from.")],
    inputs: options.Inputs = None,
    compress: Annotated[
        str | None, typer.Option("--compress", metavar="RECIPE", help="The recipe it was made with; default fp32.")
    ] = None,
    calibration: options.Calibration = None,
    preprocess: options.Preprocess = None,
    io_layout: options.IoLayout = "keep",
    io_dtype: options.IoDtype = "float32",
    deployment_target: options.DeploymentTarget = None,
    dim: options.Dims = None,
    ranges: options.Ranges = "mse",
    weights: options.Weights = "auto",
    metric: options.Metric = None,
    methods: options.Methods = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", help="Execute it here: browser or litertjs run in Chromium."),
    ] = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Execute ARTIFACT and the model on the same inputs and hold them to the recipe's contract."""
    from haversack.convert import isolated
    from haversack.convert.names import check_metric, check_options, dims_of, methods_of, target_of

    suffix = artifact.with_suffix(".onnx") if artifact.suffix == ".ort" else artifact
    target = target_of(None, suffix)
    check_options(target, compress or "fp32", calibration, io_layout, io_dtype, deployment_target, ranges, weights)
    check_metric(metric or "top1")
    with show.progress() as progress:
        checked = isolated.verify(
            artifact,
            against,
            inputs=inputs,
            compress=compress or "fp32",
            calibration=calibration,
            preprocess=preprocess,
            io_layout=io_layout,
            io_dtype=io_dtype,
            deployment_target=deployment_target,
            dims=dims_of(dim or ()),
            ranges=ranges,
            weights=weights,
            metric=metric,
            methods=methods_of(methods),
            engine=engine,
            limits=options.limits(timeout, memory),
            progress=progress,
        )
    if json:
        show.as_json(checked)
    else:
        rows = [("artifact", f"{checked.artifact} against {against}, as {checked.compression}")]
        rows += show.proof_rows(checked.verification)
        if checked.accuracy is not None:
            rows.append(("accuracy", f"{show.accuracy(checked.accuracy)}, {show.difference(checked.accuracy)}"))
        show.lines(rows)
    return 0
