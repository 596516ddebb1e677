"""`haversack pack`: one model to one bundle of verified variants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.report import Pack, Variant

EXAMPLES = (
    "Example:  haversack pack model.onnx --to tflite,coreml,onnx --calibration calib.npz --evaluation eval.npz "
    "--max-drop 1.0 -o model.haversack"
)


def command(
    model: options.Model,
    to: Annotated[
        str, typer.Option("--to", metavar="TARGETS", help="Targets, with commas between them.")
    ] = "tflite,coreml,onnx",
    output: options.Output = None,
    calibration: options.Calibration = None,
    evaluation: options.Evaluation = None,
    preprocess: options.Preprocess = None,
    recipes: Annotated[
        str | None, typer.Option("--recipes", metavar="RECIPES", help="With commas; default fp32,fp16,int8.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", metavar="POINTS", min=0.0, help="Accuracy that may be lost.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Bytes an artifact may have, such as 200KB.")
    ] = None,
    confident: Annotated[
        bool, typer.Option("--confident", help="Judge --max-drop by the bound of its 95 % interval.")
    ] = False,
    max_wire: Annotated[
        str | None, typer.Option("--max-wire", metavar="SIZE", help="Bytes it may have over the wire, with brotli.")
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            "--max-latency",
            metavar="TIME",
            help="Median of a call: 2ms or 800us on this machine, 2ms@pi4 on the device that --bench was measured on.",
        ),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", metavar="JSON", help="What haversack bench --json gave on that device."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="WHAT",
            help="What to be best at within the budget: size (on disk), wire (a download) or latency.",
        ),
    ] = None,
    plan: options.Plan = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Keeps what the search measured; default: the user's cache."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", min=1, help="Processes of the search; default: one a core.")
    ] = None,
    io_layout: options.IoLayout = "keep",
    io_dtype: options.IoDtype = "float32",
    deployment_target: options.DeploymentTarget = None,
    dim: options.Dims = None,
    ranges: options.Ranges = "mse",
    weights: options.Weights = "auto",
    metric: options.Metric = None,
    allow_overlap: options.AllowOverlap = False,
    no_verify: options.NoVerify = False,
    training_data: Annotated[
        str | None, typer.Option("--training-data", metavar="TEXT", help="Provenance: what it was trained on.")
    ] = None,
    code_commit: Annotated[
        str | None, typer.Option("--code-commit", metavar="TEXT", help="Provenance: commit of the training code.")
    ] = None,
    hyperparameters: Annotated[
        str | None, typer.Option("--hyperparameters", metavar="TEXT", help="Provenance: JSON, or key=value,...")
    ] = None,
    force: options.Force = False,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Make every variant of MODEL, verify and measure each, and write one bundle."""
    from haversack.convert import isolated
    from haversack.convert.budget import budget_of
    from haversack.convert.errors import BudgetError
    from haversack.convert.names import (
        cache_folder,
        check_metric,
        check_objective,
        check_options,
        dims_of,
        hyperparameters_of,
        recipes_of,
        size_of,
        targets_of,
    )

    targets = targets_of(to)
    check_objective(objective)
    chosen = None if recipes is None else recipes_of(recipes)
    for target in targets:
        layout = io_layout if target == "tflite" or "tflite" not in targets else "keep"  # it concerns TFLite alone
        check_options(target, "fp32", calibration, layout, "float32", deployment_target, ranges, weights)
    budget_of(max_drop, None, None, max_latency, bench, confident=confident)  # what cannot be meant is said at once
    check_metric(metric or "top1")
    with show.progress() as progress:
        made = isolated.pack(
            model,
            output=output or Path(model.with_suffix("").name + ".haversack"),
            force=force,
            to=list(targets),
            recipes=None if chosen is None else list(chosen),
            calibration=calibration,
            evaluation=evaluation,
            preprocess=preprocess,
            max_drop=max_drop,
            max_size=None if max_size is None else size_of(max_size),
            confident=confident,
            max_wire=None if max_wire is None else size_of(max_wire),
            max_latency=max_latency,
            bench=bench,
            io_layout=io_layout,
            io_dtype=io_dtype,
            deployment_target=deployment_target,
            dims=dims_of(dim or ()),
            ranges=ranges,
            weights=weights,
            objective=objective,
            plan=plan,
            cache=cache_folder(cache),
            jobs=jobs,
            metric=metric,
            allow_overlap=allow_overlap,
            verify=not no_verify,
            training_data=training_data,
            code_commit=code_commit,
            hyperparameters=hyperparameters_of(hyperparameters),
            limits=options.limits(timeout, memory),
            progress=progress,
        )
    if json:
        show.as_json(made)
    else:
        _print(made)
    if made.over:
        raise BudgetError("; ".join(made.over))
    return 0


def _print(made: Pack) -> None:
    show.variants(made.variants, [_mark(made, variant) for variant in made.variants])
    print()
    rows = []
    for target, name in made.best.items() if made.budgets or made.tried else ():
        variant = next(v for v in made.variants if (v.target, v.compression) == (target, name))
        rows.append((f"best for {target}", _told(made, variant)))
    if any(variant.holds_engine for variant in made.variants):
        rows.append(("web", "sizes without the engine, which each web artifact holds beside its model and page"))
    if made.path:
        rows.append(("bundle", f"{made.path}, {made.bytes:,} bytes, {len(made.variants)} variants"))
    if made.source_accuracy is not None:
        rows.append(
            (
                "source",
                ("accuracy " if made.source_accuracy.metric == "top1" else "") + show.accuracy(made.source_accuracy),
            )
        )
    told = [(show.difference(v.accuracy), v) for v in made.variants if v.accuracy is not None]
    told += [(text, v) for v in made.variants for text in _budget(made, v)]
    told += [(note, v) for v in made.variants for note in (*v.notes, *v.verification.notes)]
    rows += [(_names(made.variants, [v for text, v in told if text == each]), each) for each in dict(told)]
    rows += [("relaxing", sentence) for sentence in made.relaxing]
    if made.tried:
        tried = ", ".join(f"{each.name} {each.drop:+.2f}" for each in made.tried if not each.made)
        count = f"{len(made.tried)} plans executed on {made.tried[0].samples:,} samples"
        rows.append(("searched", f"{count}; not made: {tried} points lost" if tried else count))
        rows.append(("time", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.stages.items())))
    rows += [("not made", f"{skip.target} {skip.compression}: {skip.reason}") for skip in made.skipped]
    rows += [("note", note) for note in made.notes]
    rows += [("for more", advice) for advice in made.advice]
    if rows:
        show.lines(rows)


def _mark(made: Pack, variant: Variant) -> str:
    """`best` at the objective within the budget, `front` where nothing else of the target beats it."""
    if not (made.budgets or made.tried):
        return ""
    if made.best.get(variant.target) == variant.compression:
        return "best"
    return "front" if variant.compression in made.front.get(variant.target, ()) else ""


def _told(made: Pack, variant: Variant) -> str:
    """A variant in a line: what it takes, with its engine, and what is lost."""
    own, wire = variant.own("bytes"), variant.own("brotli_bytes")
    told = [variant.compression, f"{own:,} bytes"]
    if wire is not None:
        told.append(f"{wire:,} with brotli")
    engine = made.engines.get(variant.target)
    if engine is not None and engine.bytes:
        whole = variant.bytes if variant.holds_engine else own + engine.bytes
        told.append(f"{whole:,} with {engine.engine} ({engine.what})")
    if variant.accuracy is not None:
        told.append(show.difference(variant.accuracy))
    return ", ".join(told)


def _budget(made: Pack, variant: Variant) -> list[str]:
    """How a variant stands against each limit, where it does not keep to all of them."""
    judged = made.budgets.get(_key(variant), ())
    if all(each.met for each in judged):
        return ["within the budget"] if judged else []
    broken = (f"{each.allowed} allowed, measured {each.measured}" for each in judged if not each.met)
    return ["outside the budget: " + "; ".join(broken)]


def _key(variant: Variant) -> str:
    return f"{variant.target}/{variant.compression}"


def _names(all_of_them: Sequence[Variant], these: Sequence[Variant]) -> str:
    """Which variants a sentence is about, in few words: targets are left out where it is all that have them."""
    if len(these) == len(all_of_them):
        return "every variant"
    by_compressions: dict[tuple[str, ...], list[str]] = {}
    for target in dict.fromkeys(variant.target for variant in these):
        by_compressions.setdefault(tuple(v.compression for v in these if v.target == target), []).append(target)
    told = []
    for compressions, targets in by_compressions.items():
        everywhere = all(v.target in targets for v in all_of_them if v.compression in compressions)
        whose = "" if everywhere and len(targets) > 1 else ", ".join(targets) + " "
        told.append(whose + ", ".join(compressions))
    return "; ".join(told)
