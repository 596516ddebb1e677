"""`haversack inspect`: what a model, an artifact or a bundle is, and whether each target can hold the model."""

from __future__ import annotations

from typing import Annotated

import typer

from haversack.convert.cli import options, show
from haversack.convert.report import Contents, Inspection, Tensor

EXAMPLES = "Examples:  haversack inspect model.onnx --to tflite,coreml,onnx   |   haversack inspect kws.haversack"


def command(
    model: options.Model,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TARGETS", help="Ask these targets: tflite, coreml, onnx.")
    ] = None,
    compress: options.Compress = "fp32",
    calibration: options.Calibration = None,
    preprocess: options.Preprocess = None,
    deployment_target: options.DeploymentTarget = None,
    dim: options.Dims = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Say what MODEL is, and with --to whether each target can hold it: all blockers at once, each with a remedy."""
    from haversack.convert import isolated
    from haversack.convert.names import dims_of, targets_of

    asked = targets_of(to) if to else ()
    with show.progress() as progress:
        found = isolated.inspect(
            model,
            to=list(asked),
            compress=compress,
            calibration=calibration,
            preprocess=preprocess,
            deployment_target=deployment_target,
            dims=dims_of(dim or ()),
            limits=options.limits(timeout, memory),
            progress=progress,
        )
    if json:
        show.as_json(found)
    else:
        _print(found)
    return 1 if any(preflight.blockers for preflight in found.preflights) else 0


def _print(found: Inspection) -> None:
    if found.bundle is not None:
        _print_bundle(found.bundle)
        return
    model = found.model
    assert model is not None
    rows = [
        ("model", f"{model.name} ({model.format}), {model.bytes:,} bytes, sha256 {model.sha256[:16]}"),
        ("graph", f"{model.nodes} nodes, {model.parameters:,} parameters, opset {model.opset}"),
        ("operators", ", ".join(f"{op} {count}" for op, count in model.ops.items()) or "none"),
    ]
    rows += _edges(model.inputs, model.outputs)
    show.lines(rows)
    for preflight in found.preflights:
        verdict = "yes" if not preflight.blockers else f"no, {len(preflight.blockers)} blockers"
        print(f"\n{preflight.target} {preflight.compression}: {verdict}")
        for blocker in preflight.blockers:
            print(f"  {blocker}")


def _print_bundle(bundle: Contents) -> None:
    rows = [("bundle", f"{bundle.name}, schema {bundle.schema}"), *bundle.facts.items()]
    rows += _edges(bundle.inputs, bundle.outputs)
    if bundle.labels:
        rows.append(("labels", ", ".join(bundle.labels)))
    show.lines(rows)
    print()
    show.variants(bundle.variants)


def _edges(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> list[tuple[str, str]]:
    return [
        (kind, f"{tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]")
        for kind, tensors in (("input", inputs), ("output", outputs))
        for tensor in tensors
    ]
