"""`haversack plan`: how a bundle's planned variants hold each layer, as a table, a file, or a module for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.report_plans import PlanRow, Plans

EXAMPLES = (
    "Examples:  haversack plan model.haversack --variant tflite-wire3.08 -o plan.json   |   "
    "haversack plan model.haversack --variant tflite-wire3.08 --for torch -o qat.py"
)


def command(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE|PLAN", help="A .haversack, or a plan's .json.")],
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="ID", help="The variant whose plan is meant: tflite-wire3.08.")
    ] = None,
    framework: Annotated[
        str | None,
        typer.Option("--for", metavar="FRAMEWORK", help="Export it for quantization-aware training: torch or keras."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="With --for and a .json: the model that it is for.")
    ] = None,
    retrained: Annotated[
        bool, typer.Option("--retrained", help="The plan for the model after that training: no methods, no hash.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PATH", help="Write the plan, or with --for the module.")
    ] = None,
    force: options.Force = False,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Show the plans in BUNDLE, or one layer by layer; write it for --plan, or for training (docs/qat.md).

    Without -o, what --for or --retrained makes is printed.
    """
    from haversack.convert import isolated
    from haversack.convert.names import check_framework

    check_framework(framework, retrained=retrained)
    found = isolated.plan(
        source,
        variant=variant,
        framework=framework,
        model=model,
        retrained=retrained,
        output=output,
        force=force,
        limits=options.limits(timeout, memory),
    )
    if json:
        show.as_json(found)
    else:
        _print(found, one=variant is not None)
    return 0


def _print(found: Plans, *, one: bool) -> None:
    if found.text and found.written is None:
        print(found.text, end="")
        return
    for plan in found.plans:
        methods = ", ".join(plan.methods) or "no methods"
        counts = "; ".join(f"{count} × {held}" for held, count in plan.counts.items())
        print("  ".join((plan.name, plan.arithmetic, methods, counts or f"all {plan.default}")))
    if found.written is not None:
        print(f"\nwritten  {found.written}")
    elif one or len(found.plans) == 1:
        _table(found.plans[0])


def _table(plan: PlanRow) -> None:
    print()
    if plan.variants:
        show.lines([("variants", ", ".join(plan.variants)), ("ranges", plan.ranges)])
        print()
    rows = [(x.layer, x.held, "-" if x.weights is None else f"{x.weights:,}", x.trained or "-") for x in plan.layers]
    rows += [] if plan.layers and plan.layers[0].trained else [("(every other)", plan.default, "-", "-")]
    show.table(("layer", "held", "weights", "in training"), rows, right=(2,))
