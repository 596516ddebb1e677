"""A diagnosis in words for the terminal: at most a screen. Free of numpy and engines."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator

from haversack.convert.diagnosis import NATS, Cause, Diagnosis, Harm, Trial, tolerated
from haversack.convert.measured import Accuracy

WIDTH = 118
SHOWN_CAUSES = 4
SHOWN_TRIALS = 6
SHOWN_NOTES = 2


def verdict(found: Diagnosis) -> str:
    """The one line that says it all: from what to what, and whether that is a loss."""
    before, harm = found.before, found.harm
    if before is None:
        said = f"{found.model.name} as {found.compression}: {loss(harm)} at the output ({harm.snr_db:.1f} dB)"
        said += f"; {harm.worst}" if harm.worst and not found.healthy else ""
    elif before.stands_in:
        said = (
            f"{found.model.name} as {found.compression}: agrees with the float model on {percent(before)} of "
            f"{found.measured_on}"
        )
    else:
        source = _value(before, before.value - before.difference)
        said = (
            f"{found.model.name} as {found.compression}: {source} → {_value(before, before.value)}, {change(before)}, "
            f"on {found.measured_on}"
        )
    limit = f"{found.allowed:g} point{'' if found.allowed == 1 else 's'}"
    if before is None:
        limit = amount(found.allowed * tolerated(harm.unit), harm.unit)
    elif before.unit != "points":
        limit = f"{found.allowed:g}"
    if found.healthy:
        return f"{said}: healthy, within {limit}; no repair is needed"
    if found.repaired:
        return f"{said}: more than {limit}; a repair was found"
    return f"{said}: more than {limit}" + ("; no repair that was tried is enough" if found.trials else "")


def text(found: Diagnosis) -> str:
    """The whole of it."""
    lines = _wrapped(found.verdict, "")
    if found.healthy:
        lines += ["", *_wrapped(largest(found), "")]
    elif found.causes:
        lines += ["", "why (each alone, everything else in floats)"]
        for number, cause in enumerate(found.causes[:SHOWN_CAUSES], start=1):
            lines += _cause(number, cause, found.harm.unit)
        if len(found.causes) > SHOWN_CAUSES:
            lines.append(f"    … and {len(found.causes) - SHOWN_CAUSES} more (--json, --report)")
    if found.trials:
        lines += ["", *_trials(found)]
    if found.artifacts:
        lines += ["", *_artifacts(found)]
    steps = [*(f"$ {command}" for command in found.commands), *found.advice]
    if steps:
        lines += ["", "next"]
        for step in steps:
            lines += [f"  {step}"] if step.startswith("$") else _wrapped(step, "  ")
    for note in found.notes[:SHOWN_NOTES]:
        lines += _wrapped(f"note: {note}", "")
    return "\n".join(lines)


def largest(found: Diagnosis) -> str:
    """The largest loss of a model that needs no repair."""
    parts: list[tuple[float, str]] = []
    parts += [(each.weights.loss, f"the weights of {each.name}") for each in found.layers if each.weights is not None]
    parts += [(each.harm.loss, f"the range of {each.name}") for each in found.tensors]
    if not parts:
        return f"All of it costs {loss(found.harm)} on {found.samples} calibration samples."
    cost, name = max(parts)
    return (
        f"The largest loss alone is that of {name}: {amount(cost, found.harm.unit)}, against {loss(found.harm)} for "
        f"all {len(parts)} parts together, on {found.samples} calibration samples."
    )


def loss(harm: Harm) -> str:
    """`1.8 nats`, `31 % noise`."""
    return amount(harm.loss, harm.unit)


def amount(value: float, unit: str) -> str:
    """A loss in its unit."""
    if unit == NATS:
        return f"{value:.2g} nats"
    share = 100 * value
    return f"{share:.0f} % noise" if share >= 10 else f"{share:.2g} % noise"


def commands(
    found: Diagnosis,
    model: str,
    calibration: str | None,
    evaluation: str | None,
    preprocess: str | None,
    to: str | None,
    plan: str | None,
) -> tuple[str, ...]:
    """Command lines that go on from here, as the user would type them."""
    data = ["--calibration", calibration or "DATA"]
    if preprocess:
        data += ["--preprocess", preprocess]
    if found.compression == "fp16" and not found.healthy:
        return (shlex.join(["haversack", "convert", model, "--to", "coreml", "--compress", "fp16", *data]),)
    if not found.plan:
        return ()
    if plan is None:
        again = ["haversack", "doctor", model, "--compress", found.compression, *data]
        again += ["--evaluation", evaluation] if evaluation else []
        return (shlex.join([*again, "--plan", "repaired.json"]) + "   (writes the repair)",)
    return (shlex.join(["haversack", "convert", model, "--to", to or "tflite", "--plan", plan, *data]),)


def percent(measured: Accuracy) -> str:
    """A share."""
    return f"{100 * measured.value:.1f} %"


def change(measured: Accuracy) -> str:
    """The paired difference and its interval."""
    scale, form, unit = (100, "+.1f", " points") if measured.unit == "points" else (1, "+.3g", "")
    bounds = [measured.difference_low, measured.difference_high]
    low, high = ("unknown" if each is None else format(scale * each, form) for each in bounds)
    return f"{scale * measured.difference:{form}}{unit} [{low}, {high}]"


def _value(measured: Accuracy, value: float) -> str:
    if measured.metric in ("top1", "top5"):
        return f"{100 * value:.1f} %"
    return f"{measured.metric.rpartition(':')[2]} {value:.4g}"


def _cause(number: int, cause: Cause, unit: str) -> list[str]:
    cost = "" if cause.loss is None else f"  {amount(cause.loss, unit)}"
    lines = [f"  {number}. {cause.kind}: {cause.where}{cost}"]
    lines += _wrapped(cause.evidence, "     ")
    if cause.also:
        lines += _wrapped("also " + cause.also[0], "     ")[:2]
    return lines


def _trials(found: Diagnosis) -> Iterator[str]:
    kept = next((each for each in found.trials if each.kept), None)
    if kept is not None:
        after = found.after
        left = "" if kept.harm is None else f"{loss(found.harm)} → {loss(kept.harm)}"
        if found.before is not None and after is not None:
            left = f"{_value(after, found.before.value)} → {_value(after, after.value)}, {change(after)}; " + left
        yield from _wrapped(
            f"{'repair' if found.repaired else 'best repair'}: {kept.repair}: {left}; {size(kept.bytes)}"
            + (f"; {kept.speed}" if kept.speed else ""),
            "",
        )
    others = [each for each in found.trials if not each.kept and each.harm is not None]
    chosen = sorted(others, key=lambda each: each.harm.loss if each.harm is not None else 0.0)[: SHOWN_TRIALS - 1]
    if chosen:
        yield f"  tried too{' (the best of ' + str(len(others)) + ')' if len(others) > len(chosen) else ''}:"
    for each in chosen:
        yield from (line[:WIDTH] for line in [_trial(each)])


def _trial(each: Trial) -> str:
    assert each.harm is not None
    judged = "" if each.accuracy is None else f", {change(each.accuracy)}"
    speed = f"; {each.speed}" if each.speed else ""
    return f"    {loss(each.harm):>13}{judged}  {size(each.bytes)}  {each.repair}{speed}"


def _artifacts(found: Diagnosis) -> Iterator[str]:
    for variant in found.artifacts:
        proof = variant.verification
        told = f"verified by {proof.by}" if proof.verified else "not verified"
        accuracy = "" if variant.accuracy is None else f", {_value(variant.accuracy, variant.accuracy.value)}"
        yield f"{variant.target} {variant.compression}: {variant.bytes:,} bytes{accuracy}, {told}"


def size(count: int) -> str:
    """`+1,024 bytes`."""
    return f"{count:+,} bytes" if count else "+0 bytes"


def _wrapped(said: str, indent: str) -> list[str]:
    return textwrap.wrap(said, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
