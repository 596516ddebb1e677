"""The scale of a group of tensors: prescribed, or from what calibration saw of its members."""

from __future__ import annotations

from haversack.convert.compress import operators, ranges
from haversack.convert.compress.calibrate import Calibration
from haversack.convert.compress.groups import Group, Slot
from haversack.convert.compress.recipes import RangeRule
from haversack.convert.compress.scale import Scale, asymmetric, prescribed, symmetric


def scale_of_group(group: Group, seen: Calibration, rule: RangeRule, bits: int = 8) -> Scale:
    """The scale that all members of a group share.

    Args:
        group: Activations and constant operands.
        seen: A histogram of each activation among them.
        rule: How a range is chosen from a histogram.
        bits: Of the integers: 8, asymmetric; or 16, symmetric as TFLite's int16 kernels want them.

    Raises:
        KeyError: Calibration did not see a member.
    """
    if group.fixed is not None:
        return prescribed(group.fixed, bits)
    low, high = range_of_group(group, seen, "minmax" if bits == 16 else rule)
    return asymmetric(low, high) if bits == 8 else symmetric(low, high)


def range_of_group(group: Group, seen: Calibration, rule: RangeRule) -> tuple[float, float]:
    """The union of the members' ranges; a constant operand counts whole."""
    low = high = 0.0
    for member in group.members:
        if isinstance(member, Slot):
            array = operators.constant(member.node.inputs[member.index])
            assert array is not None
            below, above = float(array.min(initial=0.0)), float(array.max(initial=0.0))
        else:
            below, above = ranges.choose(rule, seen.histograms[str(member.name)])
        low, high = min(low, below), max(high, above)
    return low, high
