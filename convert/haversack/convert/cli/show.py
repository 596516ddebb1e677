"""What the commands print: progress on stderr when it is a terminal, reports and tables on stdout, JSON for scripts."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from haversack.convert.worker_client import Progress

if TYPE_CHECKING:
    from haversack.convert.deployment import Deployment
    from haversack.convert.measured import Accuracy, Latency, OutputError, Verification
    from haversack.convert.report import Moved, Part, Transposed, Variant
    from haversack.convert.report_browser import InBrowser

SHOWN_TRANSPOSES = 8
SHOWN_LEFT = 3


@contextlib.contextmanager
def progress() -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def update(fraction: float, phrase: str) -> None:
            bar.update(task, completed=fraction, description=phrase)

        yield update


def as_json(report: Any) -> None:
    """Print a report as JSON."""
    from haversack.convert.report import encode

    print(json.dumps(encode(report), indent=2))


def lines(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values, aligned."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print a table, as wide as its content where stdout is no terminal.

    Args:
        header: Column names.
        rows: Cells.
        right: Indices of the columns that are aligned to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, name in enumerate(header):
        shown.add_column(name, justify="right" if index in right else "left", no_wrap=True, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    content = sum(max(len(str(row[i])) for row in [header, *rows]) + 3 for i in range(len(header)))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else content
    Console(width=max(width, content), highlight=False, markup=False).print(shown)


def variants(made: Sequence[Variant], marks: Sequence[str] = ()) -> None:
    """Print the comparison of variants: size, accuracy, agreement, latency, verified.

    Args:
        made: One row each.
        marks: What to say of each in front; empty where nothing is.
    """
    header = (
        "target",
        "compression",
        "bytes",
        "gzip",
        "brotli",
        "accuracy [95 %]",
        "agreement",
        "p50/p95/p99 here",
        "verified",
    )
    rows = [variant_row(variant) for variant in made]
    if any(marks):
        rows = [(mark, *row) for mark, row in zip(marks, rows, strict=True)]
        table(("", *header), rows, right=(3, 4, 5))
    else:
        table(header, rows, right=(2, 3, 4))


def variant_row(variant: Variant) -> tuple[str, ...]:
    """One row of that table; sizes are without an engine, so that they compare."""
    proof = variant.verification
    gzip, brotli = variant.own("gzip_bytes"), variant.own("brotli_bytes")
    return (
        variant.target,
        variant.compression,
        f"{variant.own('bytes'):,}",
        "-" if gzip is None else f"{gzip:,}",
        "-" if brotli is None else f"{brotli:,}",
        accuracy(variant.accuracy),
        "-" if proof.agreement is None else f"{proof.agreement:.1%}",
        latency(variant.latency),
        verified(proof),
    )


def accuracy(measured: Accuracy | None) -> str:
    """A metric with its interval: an accuracy in percent, another by its name and in its own unit."""
    if measured is None:
        return "-"
    if measured.metric not in ("top1", "top5"):
        numbers = [_number(value, ".4g") for value in (measured.value, measured.low, measured.high)]
        return f"{measured.metric} {numbers[0]} [{numbers[1]}, {numbers[2]}]"
    name = "" if measured.metric == "top1" else f"{measured.metric} "
    agrees = " agree" if measured.stands_in else ""
    return f"{name}{100 * measured.value:.1f} % [{100 * measured.low:.1f}, {100 * measured.high:.1f}]{agrees}"


def difference(measured: Accuracy) -> str:
    """The paired difference to the source, the test, and the verdict that they allow."""
    scale, form, unit = (100, "+.2f", " points") if measured.unit == "points" else (1, "+.3g", "")
    values = (measured.difference, measured.difference_low, measured.difference_high)
    change, low, high = (_number(value, form, scale) for value in values)
    told = f"{change}{unit} to the source [{low}, {high}]"
    if measured.stands_in:
        told += ", by the agreement with it, which stands in for an accuracy without labels"
    if measured.p_value is not None:
        told += f", McNemar p {measured.p_value:.2g}"
    return f"{told}: {measured.verdict}" if measured.verdict else told


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    """A number; what is infinite has become None on its way through JSON."""
    if value is None:
        return "unknown"
    told = format(scale * value, form)
    return format(0.0, form) if not any(digit in told for digit in "123456789") else told


def latency(measured: Latency | None) -> str:
    """Percentiles in milliseconds, or in microseconds where all are below one."""
    if measured is None:
        return "-"
    values, unit = (measured.p50, measured.p95, measured.p99), "ms"
    if max(values) < 1:
        values, unit = (1e3 * values[0], 1e3 * values[1], 1e3 * values[2]), "µs"
    return "/".join(f"{value:.3g}" for value in values) + f" {unit}"


def moved(tensor: Moved) -> str:
    """An input or output whose axes were moved: its shape in the model and in the artifact."""
    here = [tensor.shape[axis] for axis in tensor.order]
    text = f"{tensor.name} is {list(tensor.shape)} in the model, {here} in the artifact (axes {list(tensor.order)})"
    return text.replace("'", "")


def transpose_rows(left: Sequence[Transposed]) -> list[tuple[str, str]]:
    """How many transposes remain, and the reasons of the largest; `--json` has them all."""
    if not left:
        return []
    rows = [("transposes", f"{len(left)} at run time, {sum(each.bytes for each in left):,} bytes moved in a run")]
    largest = sorted(left, key=lambda each: -each.bytes)[:SHOWN_TRANSPOSES]
    rows += [("", f"{each.value}: {each.reason}") for each in largest]
    if len(left) > len(largest):
        rows.append(("", f"… and {len(left) - len(largest)} smaller ones (--json)"))
    return rows


def deployment_rows(found: Deployment | None, *, short: bool = False) -> list[tuple[str, str]]:
    """How an ONNX Runtime artifact gets onto devices; `--json` has every node that a provider leaves.

    Args:
        found: None of another target.
        short: Packages by name only, and no reasons.
    """
    if found is None:
        return []
    packages = found.packages
    if short:
        names = ", ".join(f"{each.manager} {each.name} ({each.platform})" for each in packages)
        rows = [("packages", f"{names}; {packages[0].at_least} or later")]
    else:
        rows = [
            (
                f"{each.manager}",
                f"{each.name} {each.at_least} or later ({each.known} known), {each.platform}: {each.holds}",
            )
            for each in packages
        ]
    for fit in found.providers:
        pieces = f" in {fit.partitions} partition{'s' * (fit.partitions > 1)}" if fit.taken else ""
        reasons: dict[str, list[str]] = {}
        for each in fit.left:
            reasons.setdefault(each.reason, []).append(f"{each.op} {each.count}")
        left = "; ".join(f"{reason}: {', '.join(ops[:SHOWN_LEFT])}{', …' * (len(ops) > SHOWN_LEFT)}"
                         for reason, ops in reasons.items())  # fmt: skip
        why = f"; left: {left}" if left and not short else ""
        rows.append((fit.provider, f"{fit.taken} of {fit.nodes} nodes{pieces} ({fit.basis}){why}"))
        rows += [("", note) for note in fit.notes if not short]
    build = found.reduced
    if build is not None:
        kept = f"{build.operators} operators, {build.kernels} of {build.kernels_full:,} kernels"
        rows.append(("reduced build", f"{kept} ({build.config})" if short else f"{kept}: {' '.join(build.flags)}"))
        if not short:
            rows.append(("", build.known))
    return rows


def part_rows(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """What a browser fetches on its first visit: the model, the engine beside it, the page, and all of it."""
    if not parts:
        return []
    from haversack.convert.report import Part

    whole = Part(
        "first visit",
        sum(part.bytes for part in parts),
        sum(part.gzip_bytes for part in parts),
        None if any(part.brotli_bytes is None for part in parts) else sum(part.brotli_bytes or 0 for part in parts),
    )
    return [
        (
            part.name,
            f"{part.bytes:,} bytes, {part.gzip_bytes:,} with gzip"
            + ("" if part.brotli_bytes is None else f", {part.brotli_bytes:,} with brotli"),
        )
        for part in ((*parts, whole) if len(parts) > 1 else (whole,))
    ]


def verified(proof: Verification) -> str:
    """Whether, and with which label."""
    if not proof.verified:
        return "no"
    return f"yes ({proof.label})" if proof.label else "yes"


def proof_rows(proof: Verification) -> list[tuple[str, str]]:
    """A verification as names and values."""
    if not proof.verified:
        return [("verified", "no: it was not executed")]
    rows = [
        ("verified", f"yes, by {proof.by}" + (f" ({proof.label})" if proof.label else "")),
        ("inputs", proof.inputs),
    ]
    rows += [_error_row(error, proof.against) for error in proof.outputs]
    if proof.against != "source":
        rows += [_error_row(error, "source") for error in proof.to_source]
    if proof.agreement is not None:
        rows.append(("agreement", f"{proof.agreement:.2%} with the source ({proof.changed} changed)"))
    if proof.worst_layer is not None:
        worst = proof.worst_layer
        rows.append(
            ("layers", f"{proof.layers} judged alone; worst {worst.name} ({worst.op}) {worst.error:.3g} {worst.unit}")
        )
    rows += [("note", note) for note in proof.notes]
    return rows


def browser_rows(browser: InBrowser) -> list[tuple[str, str]]:
    """Where an artifact ran, how long it took to be ready, and how far it was from the native engine."""
    threads = f"{browser.threads} thread{'s' if browser.threads > 1 else ''}"
    isolated = "isolated" if browser.isolated else "not isolated: one thread, and times in steps of 100 µs"
    ready = f"runtime {browser.runtime_ms:.0f} ms, model {browser.load_ms:.1f} ms"
    if browser.first_run_ms is not None:
        ready += f", first run {browser.first_run_ms:.2f} ms"
    rows = [("in", f"{browser.chromium}, {threads}, {isolated}"), ("start", ready)]
    for output in browser.outputs:
        far = "exact" if output.max_abs == 0 else f"relative error {output.max_relative:.1e}"
        rows.append(("compared", f"output {output.name}: {far} against {browser.native}"))
    return rows


def _error_row(error: OutputError, against: str) -> tuple[str, str]:
    if error.snr_db is not None:
        snr = f"{error.snr_db:.1f} dB"
    else:
        snr = "exact" if error.max_abs == 0 else f"where the {against} is all zero"
    return f"output {error.name}", f"relative error {error.max_relative:.1e} against the {against}, {snr}"
