"""`haversack check`: a bundle held against a budget file, for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.report import BudgetCheck

EXAMPLES = "Example:  haversack check model.haversack --budget budget.toml --baseline released.haversack"


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .haversack.")],
    budget: Annotated[Path, typer.Option("--budget", metavar="TOML", help="What is allowed; docs/ci.md has the keys.")],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="OLD", help="An older bundle, for limits on growth.")
    ] = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Hold what was measured of BUNDLE against a budget: one line a budget, exit 1 where one is not met."""
    from haversack.convert import isolated

    found = isolated.check(bundle, budget=budget, baseline=baseline, limits=options.limits(timeout, memory))
    if json:
        show.as_json(found)
    else:
        _print(found)
    return 0 if found.met else 1


def _print(found: BudgetCheck) -> None:
    rows = [
        (
            "ok" if row.judgement.met else "FAILED",
            row.variant or row.subject,
            row.judgement.budget,
            row.judgement.measured,
            f"{row.judgement.allowed} allowed" if row.judgement.limit is not None else row.judgement.allowed,
        )
        for row in found.rows
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row[:4], widths, strict=True)) + f"  {row[4]}")
