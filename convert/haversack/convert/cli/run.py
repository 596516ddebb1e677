"""`haversack run`: a bundle or an artifact on inputs of the user's, by the runtime that a device has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.report import Ran

EXAMPLES = (
    "Examples:  haversack run model.haversack --input x.npz   |   haversack run m.tflite --input x.npz --output y.npz"
    "   |   haversack run m.onnx --input x.npz --engine browser"
)


def command(
    artifact: Annotated[Path, typer.Argument(metavar="BUNDLE|ARTIFACT", help="A bundle, or one artifact.")],
    input: Annotated[str, typer.Option("--input", metavar="FILE", help="An .npz named like the inputs, or an image.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the outputs as .npz.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="NAME", help="litert, onnxruntime, coreml, browser or litertjs.")
    ] = None,
    preprocess: options.Preprocess = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels to print a sample.")] = 3,
    force: options.Force = False,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Run a bundle or an artifact on --input and print the best labels."""
    from haversack.convert import isolated

    with show.progress() as progress:
        ran = isolated.run(
            artifact,
            input=input,
            output=output,
            engine=engine,
            preprocess=preprocess,
            top=top,
            force=force,
            limits=options.limits(timeout, memory),
            progress=progress,
        )
    if json:
        show.as_json(ran)
    else:
        _print(ran)
    return 0


def _print(ran: Ran) -> None:
    label = f" ({ran.label})" if ran.label else ""
    rows = [("ran", f"{ran.artifact} by {ran.engine}{label}, {ran.samples} samples")]
    if ran.browser is not None:
        rows += show.browser_rows(ran.browser)
    for output in ran.outputs:
        rows.append((f"output {output.name}", f"{output.dtype} {list(output.shape)}"))
        for index, best in enumerate(output.top[:10]):
            rows.append((f"sample {index}", ", ".join(f"{name} {score:.4g}" for name, score in best)))
        if len(output.top) > 10:
            rows.append(("", f"and {len(output.top) - 10} more samples"))
    if ran.written:
        rows.append(("written", ran.written))
    show.lines(rows)
