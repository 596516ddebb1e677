"""`haversack bench`: how fast artifacts are on this machine, measured interleaved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haversack.convert.cli import options, show

if TYPE_CHECKING:
    from haversack.convert.report import Benched

EXAMPLES = (
    "Examples:  haversack bench model.tflite model.onnx --threads 1   |   "
    "haversack bench model.onnx --engine browser --threads 2"
)

HEADER = ("artifact", "engine", "p50 ms", "p95 ms", "p99 ms", "runs", "cold start ms", "load + call ms", "peak MiB")


def command(
    artifacts: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE|ARTIFACT...", help="Bundles (every variant) and artifacts.")
    ],
    engine: Annotated[str | None, typer.Option("--engine", metavar="NAME", help="Only what this engine runs.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of one call.")] = 1,
    runs: Annotated[int, typer.Option("--runs", min=5, help="Timed calls of each, at most.")] = 500,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Time for each, at most.")] = 5.0,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = None,
    json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  (read by `main`, which sees every error)
) -> int:
    """Measure latency (interleaved), cold start in a fresh process, and peak memory."""
    from haversack.convert import isolated

    with show.progress() as progress:
        found = isolated.bench(
            artifacts,
            engine=engine,
            threads=threads,
            runs=runs,
            seconds=seconds,
            limits=options.limits(timeout, memory),
            progress=progress,
        )
    if json:
        show.as_json(found)
        return 0
    in_browser = any(row.browser is not None for row in found.rows)
    header = [*HEADER, *(["× native (5–95 %)"] * in_browser)]
    rows = []
    for row in found.rows:
        times = (row.latency.p50, row.latency.p95, row.latency.p99)
        rows.append(
            (
                row.artifact,
                row.latency.engine,
                *(f"{value:.3g}" for value in times),
                str(row.latency.runs),
                f"{row.cold_start_ms:.0f}",
                f"{row.first_call_ms:.1f}",
                "-" if row.peak_rss_mb is None else f"{row.peak_rss_mb:.0f}",
                *([_ratio(row)] * in_browser),
            )
        )
    if found.rows:
        show.table(header, rows, right=range(2, len(header)))
        threads = found.rows[0].latency.threads
        print(f"\nthis machine ({found.rows[0].latency.machine}), {threads} thread{'s' if threads > 1 else ''}")
    for row in found.rows:
        if row.browser is not None:
            print(f"\n{row.artifact}")
            show.lines(show.browser_rows(row.browser))
    for note in found.notes:
        print(note)
    return 0


def _ratio(row: Benched) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f})"
