"""`haversack inspect`: what a model, an artifact or a bundle is, and whether each target can hold the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.described import Package, Tensor
    from haversack.convert.report import Contents, Inspection

EXAMPLES = "Examples:  haversack inspect model.onnx --to tflite,coreml,onnx   |   haversack inspect model.mlpackage"

SHOWN_LAYERS = 24
"""How many of a package's layers are shown, the largest; `--json` has them all."""


def command(
    model: options.Model,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TARGETS", help="Ask these targets: tflite, coreml, onnx, web.")
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
    """Say what MODEL is, and with --to whether each target can hold it: all blockers at once, each with a remedy.

    A bundle or a Core ML package is MODEL too: what it holds is listed, a package's weights layer by layer.
    """
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
    if found.package is not None:
        _print_package(found.package)
        return
    model = found.model
    assert model is not None
    rows = [
        ("model", f"{model.name} ({model.format}), {model.bytes:,} bytes, sha256 {model.sha256[:16]}"),
        ("graph", f"{model.nodes} nodes, {model.parameters:,} parameters, opset {model.opset}"),
        ("operators", ", ".join(f"{op} {count}" for op, count in model.ops.items()) or "none"),
    ]
    rows += _edges(model.inputs, model.outputs)
    rows += [("note", note) for note in model.notes]
    show.lines(rows)
    for preflight in found.preflights:
        verdict = "yes" if not preflight.blockers else f"no, {len(preflight.blockers)} blockers"
        print(f"\n{preflight.target} {preflight.compression}: {verdict}")
        for blocker in preflight.blockers:
            print(f"  {blocker}")
        if preflight.deployment is not None:
            show.lines([(f"  {name}", text) for name, text in show.deployment_rows(preflight.deployment)])


def _print_bundle(bundle: Contents) -> None:
    rows = [("bundle", f"{bundle.name}, schema {bundle.schema}"), *bundle.facts.items()]
    rows += _edges(bundle.inputs, bundle.outputs)
    if bundle.labels:
        rows.append(("labels", ", ".join(bundle.labels)))
    show.lines(rows)
    print()
    show.variants(bundle.variants)


def _print_package(package: Package) -> None:
    stored = sum(package.weights.values())
    rows = [
        ("package", f"{package.name} (Core ML), {package.bytes:,} bytes, sha256 {package.sha256[:16]}"),
        ("system", f"{package.system} and later"),
        ("operations", ", ".join(f"{op} {count}" for op, count in package.ops.items()) or "none"),
        ("precision", ", ".join(f"{dtype} {count}" for dtype, count in package.precision.items()) or "no floats"),
        ("weights", "; ".join([f"{stored:,} bytes", *(f"{how}: {n:,}" for how, n in package.weights.items())])),
    ]
    if len(package.functions) > 1:
        rows.insert(2, ("functions", ", ".join(package.functions)))
    rows += _edges(package.inputs, package.outputs)
    rows += [("state", f"{state.name} {state.dtype} {list(state.shape)}") for state in package.states]
    rows.append(("evaluator", package.problem or "knows every operation of it"))
    show.lines(rows)
    if not package.layers:
        return
    print()
    largest = sorted(package.layers, key=lambda layer: -layer.bytes)[:SHOWN_LAYERS]
    shown = [layer for layer in package.layers if layer in largest]
    header = ("layer", "operation", "precision", "weights", "elements", "bytes")
    cells = [(x.name, x.op, x.precision, x.weights, f"{x.elements:,}", f"{x.bytes:,}") for x in shown]
    show.table(header, cells, right=(4, 5))
    if len(package.layers) > len(shown):
        print(f"\n… and {len(package.layers) - len(shown)} smaller layers (--json)")


def _edges(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> list[tuple[str, str]]:
    return [
        (kind, f"{tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]")
        for kind, tensors in (("input", inputs), ("output", outputs))
        for tensor in tensors
    ]
