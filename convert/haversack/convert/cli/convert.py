"""`haversack convert`: one model to one artifact, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.report import Conversion

EXAMPLES = (
    "Examples:  haversack convert model.onnx --to tflite   |   "
    "haversack convert model.h5 -o model.mlpackage --compress int8 --calibration images.zip --preprocess imagenet"
)


def command(
    model: options.Model,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TARGET", help="tflite, coreml, onnx or web; else what -o's suffix says."),
    ] = None,
    output: options.Output = None,
    compress: options.Compress = "fp32",
    calibration: options.Calibration = None,
    preprocess: options.Preprocess = None,
    inputs: options.Inputs = None,
    io_layout: options.IoLayout = "keep",
    io_dtype: options.IoDtype = "float32",
    deployment_target: options.DeploymentTarget = None,
    dim: options.Dims = None,
    image_input: options.ImageInputs = None,
    state: options.States = None,
    ranges: options.Ranges = "mse",
    weights: options.Weights = "auto",
    metric: options.Metric = None,
    methods: options.Methods = None,
    plan: options.Plan = None,
    single_file: options.SingleFile = False,
    no_verify: options.NoVerify = False,
    force: options.Force = False,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Convert MODEL to one artifact, execute it against the model, and write it only if they agree."""
    from haversack.convert import isolated
    from haversack.convert.names import (
        check_metric,
        check_options,
        default_output,
        dims_of,
        methods_of,
        single_file_output,
        states_of,
        target_of,
    )

    target = target_of(to, output)
    check_options(target, compress, calibration, io_layout, io_dtype, deployment_target, ranges, weights)
    check_metric(metric or "top1")
    if single_file:
        output = single_file_output(model, target, output)
    with show.progress() as progress:
        made = isolated.convert(
            model,
            output=output or default_output(model, target),
            force=force,
            to=target,
            compress=compress,
            calibration=calibration,
            preprocess=preprocess,
            inputs=inputs,
            io_layout=io_layout,
            io_dtype=io_dtype,
            deployment_target=deployment_target,
            dims=dims_of(dim or ()),
            image_inputs=image_input or [],
            states=states_of(state or ()),
            ranges=ranges,
            weights=weights,
            metric=metric,
            methods=methods_of(methods),
            plan=plan,
            verify=not no_verify,
            limits=options.limits(timeout, memory),
            progress=progress,
        )
    if json:
        show.as_json(made)
    else:
        _print(made)
    return 0


def _print(made: Conversion) -> None:
    variant = made.variant
    gzip = "" if variant.gzip_bytes is None else f", {variant.gzip_bytes:,} with gzip"
    brotli = "" if variant.brotli_bytes is None else f", {variant.brotli_bytes:,} with brotli"
    rows = [
        ("artifact", f"{variant.path} ({variant.target}, {variant.compression})"),
        ("size", f"{variant.bytes:,} bytes{gzip}{brotli}"),
    ]
    if variant.companions:
        rows.append(("beside it", ", ".join(variant.companions)))
    rows += show.part_rows(variant.parts)
    if variant.min_runtime:
        rows.append(("needs", variant.min_runtime))
    rows += show.proof_rows(variant.verification)
    if variant.accuracy is not None:
        rows.append(("accuracy", f"{show.accuracy(variant.accuracy)}, {show.difference(variant.accuracy)}"))
    rows += [(moved.kind, show.moved(moved)) for moved in variant.moved]
    rows += show.transpose_rows(variant.transposes)
    rows += show.deployment_rows(variant.deployment, short=True)
    rows += [("note", note) for note in variant.notes]
    show.lines(rows)
