"""Why accuracy falls though the ranges fit the calibration data: what that data does not show.

Ranges of activations come from calibration data alone. Whether it was enough, and of the right kind, is read from its
own two halves, and from evaluation inputs (never from their labels).
"""

from __future__ import annotations

import numpy as np

from haversack.convert.diagnosis import Cause
from haversack.convert.doctor.chart import Chart
from haversack.convert.doctor.examine import rounded_tensors

BEYOND = 1.5
"""Evaluation inputs that reach this many times as far as calibration did leave the range that it gave."""

UNSTABLE = 1.5
"""Halves of the calibration data that disagree by this factor are too few samples."""

WORSE = 3.0
"""A loss on evaluation inputs of so many times that on calibration data is the data's."""


def dead_calibration(chart: Chart) -> list[Cause]:
    """Tensors that calibration data never excites: all zero, or far smaller than on evaluation inputs.

    A tensor of zeros gets a range of its own choosing (`scale.DEGENERATE_WIDTH`), one that was hardly excited a range
    that clips everything that comes later.
    """
    found = []
    for look in chart.exam.groups:
        if look.group.fixed is not None:
            continue
        factors = {}
        for name in look.names:
            now = None if chart.evaluation is None else chart.evaluation.get(name)
            known = chart.calibration.get(name)
            if now is None or known is None or not now.samples or not known.samples:
                continue
            factors[name] = now.reach / known.reach if known.reach > 0 else (np.inf if now.reach > 0 else 1.0)
        name = max(factors, key=factors.__getitem__, default="")
        if not name or factors[name] < BEYOND:
            continue
        harm = None
        if chart.apart is not None:
            harm = chart.apart.harm(rounded_tensors(chart.exam.model, dict.fromkeys(look.names, look.scale)))
            if harm.loss < 0.05 * chart.worst:
                continue
        assert chart.evaluation is not None
        reach, wanted = chart.calibration[name].reach, chart.evaluation[name].reach
        said = "is zero on every calibration sample" if not reach else f"reaches {reach:.4g} on calibration data"
        found.append(
            Cause(
                "dead calibration" if not reach or factors[name] >= 8 else "calibration of another kind",
                name,
                f"it {said} and {wanted:.4g} on evaluation inputs"
                + ("" if not reach else f", {factors[name]:.1f} times as far")
                + f"; its range ends at {look.scale.highest:.3g}",
                None if harm is None else harm.loss,
                {"calibration": reach, "evaluation": wanted},
                tuple(str(node.name) for node in chart.touching(look)),
            )
        )
    return found


def never_excited(chart: Chart) -> list[Cause]:
    """Tensors that are zero on every calibration sample, where there are no evaluation inputs to say more."""
    if chart.evaluation is not None:
        return []
    found = []
    for look in chart.exam.groups:
        known = [chart.calibration.get(name) for name in look.names]
        if look.group.fixed is None and all(each is not None and each.samples and each.reach == 0 for each in known):
            found.append(
                Cause(
                    "dead calibration",
                    look.names[0],
                    f"it is zero on all {chart.samples} calibration samples, so that its range is unknown",
                    nodes=tuple(str(node.name) for node in chart.touching(look)),
                )
            )
    return found


def too_few_samples(chart: Chart) -> Cause | None:
    """Ranges that the two halves of the calibration data do not agree on.

    The extreme of n independent samples grows with n until the distribution's own end is near (extreme value theory);
    halves that agree say that twice the samples would hardly change the ranges.
    """
    first, second = chart.halves
    ratios = {}
    for look in chart.exam.groups:
        if look.group.fixed is not None:
            continue
        for name in look.names:
            one, other = first.get(name), second.get(name)
            if one is None or other is None or not one.samples or not other.samples:
                continue
            low, high = sorted((one.reach, other.reach))
            if high > 0:
                ratios[name] = high / low if low > 0 else np.inf
    if not ratios:
        return None
    name = max(ratios, key=ratios.__getitem__)
    if ratios[name] < UNSTABLE:
        return None
    unstable = sum(ratio >= UNSTABLE for ratio in ratios.values())
    near, further = sorted((first[name].reach, second[name].reach))
    return Cause(
        "too few samples",
        name,
        f"one half of the {chart.samples} calibration samples reaches {near:.4g}, the other {further:.4g}; so do "
        f"{unstable} of {len(ratios)} tensors by {UNSTABLE:g} times or more",
        numbers={"unstable": float(unstable), "tensors": float(len(ratios)), "ratio": float(min(ratios[name], 1e9))},
    )


def masked(chart: Chart) -> Cause | None:
    """A last softmax or sigmoid that hides the loss: outputs look alike behind it that are not alike before it.

    Where they saturate their slope is almost zero; the next input may lie where it is not.
    """
    squashed, harm = chart.squashed, chart.exam.harm
    if squashed is None or harm.snr_db > 20 or squashed.snr_db < harm.snr_db + 10:
        return None
    return Cause(
        "masked output",
        chart.exam.bench.outputs[0].name,
        f"behind the last softmax or sigmoid the outputs have {squashed.snr_db:.0f} dB, before it {harm.snr_db:.0f} "
        "dB: compared as they are, they hide the loss",
        numbers={"before_db": harm.snr_db, "behind_db": squashed.snr_db},
    )


def advice(chart: Chart, causes: list[Cause], labels: np.ndarray | None, classes: tuple[str, ...] | None) -> list[str]:
    """What data would help: how much, and of which kind."""
    found = []
    kinds = {cause.kind for cause in causes}
    if chart.samples < 2:
        return ["calibrate with more than one sample: a hundred is a start, and then halves can be compared"]
    few = next((cause for cause in causes if cause.kind == "too few samples"), None)
    if few is not None:
        times = 4 if few.numbers["ratio"] > 2 or few.numbers["unstable"] > few.numbers["tensors"] / 2 else 2
        found.append(
            f"calibrate with {times * chart.samples:,} samples instead of {chart.samples:,}: the ranges of "
            f"{few.numbers['unstable']:.0f} tensors still move between halves; run the doctor again to see them settle"
        )
    if kinds & {"dead calibration", "calibration of another kind"} and chart.beyond:
        first = ", ".join(str(each.sample) for each in chart.beyond[:5])
        text = (
            f"add calibration samples like evaluation samples {first}, which reach up to {chart.beyond[0].factor:.1f} "
            "times as far as calibration does (like them, not those: they are for judging)"
        )
        if labels is not None and len(chart.beyond) >= 5:
            values, counts = np.unique(labels[[each.sample for each in chart.beyond]], return_counts=True)
            most = int(counts.argmax())
            if counts[most] > len(chart.beyond) / 2:
                name = classes[int(values[most])] if classes else f"class {int(values[most])}"
                text += f"; {counts[most]} of the {len(chart.beyond)} furthest are of {name}"
        found.append(text)
        inputs = {str(value.name) for value in chart.exam.model.graph.inputs}
        if any(cause.where in inputs for cause in causes):
            found.append(
                "the model's input itself is of another range in the two sets: check that both are prepared alike "
                "(--preprocess, scale, mean)"
            )
    return found
