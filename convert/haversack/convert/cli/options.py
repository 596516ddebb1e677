"""Options that several commands share, with one wording each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haversack.convert.names import size_of
from haversack.convert.worker_client import Limits

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="An .onnx, .tflite, .keras, .h5 or .skops file, or a SavedModel folder.")
]
Compress = Annotated[
    str,
    typer.Option(
        "--compress",
        metavar="RECIPE",
        help="fp32, fp16, int8, int8-dynamic, int8-weights, int4-weights, palette4, sparse50 … (a wrong one lists all)",
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option("--calibration", metavar="DATA", help="A hundred real inputs: .npz, a folder or .zip of images."),
]
Evaluation = Annotated[
    str | None, typer.Option("--evaluation", metavar="DATA", help="Labelled data to measure accuracy on.")
]
Inputs = Annotated[
    str | None, typer.Option("--inputs", metavar="DATA", help="What to verify on; made-up inputs without any.")
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess", metavar="SPEC", help="How images become inputs: a preset (imagenet,size=96x96) or a .json file."
    ),
]
IoLayout = Annotated[
    str, typer.Option("--io-layout", metavar="LAYOUT", help="keep, or channels-last at inputs and outputs.")
]
IoDtype = Annotated[
    str, typer.Option("--io-dtype", metavar="DTYPE", help="float32, or int8 at inputs and outputs (int8 only).")
]
DeploymentTarget = Annotated[
    str | None,
    typer.Option("--deployment-target", metavar="OS", help="Oldest system for Core ML: iOS15, 16, 17 or 18."),
]
Ranges = Annotated[
    str, typer.Option("--ranges", metavar="RULE", help="How int8 chooses ranges: minmax, percentile, mse or entropy.")
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="HOW", help="int8 weights: auto, per-channel or per-tensor.")
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="LIST",
        help="What int8 does beyond rounding, with commas: equalize, fitted-scales, second-order or adaround, "
        "bias-correction or analytic-bias-correction, reduced-range; none for none. "
        "Default: second-order,bias-correction.",
    ),
]
Dims = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=SIZE",
        help="Fix a symbolic dimension, such as batch=1; Core ML also takes several sizes, 1..8 or 16,32,64. "
        "May be repeated.",
    ),
]
ImageInputs = Annotated[
    list[str] | None,
    typer.Option(
        "--image-input",
        metavar="NAME",
        help="Core ML: take this input as an image, prepared as --preprocess says, or as NAME=rgb,scale=0.0078,bias=-1 "
        "does. May be repeated.",
    ),
]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="INPUT=OUTPUT",
        help="Core ML (iOS18, fp16): keep this input from call to call, and leave that output in it. May be repeated.",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="top1 (default), top5, auc, mse, cosine, or your own package.module:function.",
    ),
]
SingleFile = Annotated[
    bool, typer.Option("--single-file", help="Web: one .html that holds everything and also works from file://.")
]
Plan = Annotated[
    Path | None,
    typer.Option("--plan", metavar="JSON", help="The precision of each layer, as pack writes it; edit it as you like."),
]
NoVerify = Annotated[
    bool, typer.Option("--no-verify", help="Do not execute the result; it is then marked verified: false.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="PATH", help="What to write.")]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Calibrate on evaluation samples too, which are left out otherwise.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the whole of an error.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1.0, help="Stop the worker after so long.")]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Address space of the worker, such as 4GiB; default: all memory."),
]

DEFAULT_TIMEOUT = 3600.0


def limits(timeout: float, memory: str | None) -> Limits:
    """What the worker may use.

    Raises:
        UsageError: `memory` is no size.
    """
    return Limits(seconds=timeout, memory=None if memory is None else size_of(memory))
