"""The patient's chart: everything that causes are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from haversack.convert.compress import operators
from haversack.convert.compress.calibrate import Calibration
from haversack.convert.compress.groups import Slot
from haversack.convert.compress.scale import FIXED
from haversack.convert.diagnosis import Harm
from haversack.convert.doctor.examine import Examination, GroupLook
from haversack.convert.doctor.harm import Bench
from haversack.convert.doctor.spreads import Beyond, Spread
from haversack.convert.planning.change import judged_values

SHARE = 0.05
"""A part is a cause from this share of the whole loss on."""


@dataclass
class Chart:
    """What is known of a compressed model.

    Attributes:
        exam: What each part costs alone.
        seen: Histograms of activations over calibration data; None where activations stay float.
        halves: What the samples of calibration data with even and with odd positions look like.
        calibration: Both together.
        evaluation: What evaluation inputs look like; None without.
        beyond: Evaluation samples that leave what calibration saw most.
        apart: The float model with evaluation inputs; None without.
        harm_apart: What the compression does on those.
        samples: How many calibration samples there are.
        squashed: What the compression does to the outputs as they are, behind a last softmax or sigmoid.
    """

    exam: Examination
    seen: Calibration | None
    halves: tuple[Mapping[str, Spread], Mapping[str, Spread]] = field(default_factory=lambda: ({}, {}))
    calibration: Mapping[str, Spread] = field(default_factory=dict)
    evaluation: Mapping[str, Spread] | None = None
    beyond: list[Beyond] = field(default_factory=list)
    apart: Bench | None = None
    harm_apart: Harm | None = None
    samples: int = 0
    squashed: Harm | None = None

    @property
    def worst(self) -> float:
        """The loss of the whole compression: on calibration data, or on evaluation inputs where it is more there."""
        apart = 0.0 if self.harm_apart is None else self.harm_apart.loss
        return max(self.exam.harm.loss, apart)

    def matters(self, harm: Harm | None) -> bool:
        """Whether a part's loss alone is a share of the whole that is worth a word."""
        return harm is not None and harm.loss > 0 and harm.loss >= SHARE * self.exam.harm.loss

    def reaches_output(self, look: GroupLook) -> bool:
        """Whether the model is judged by a tensor of this group, or one of them is an output."""
        model = self.exam.model
        ends = {*judged_values(model), *(str(value.name) for value in model.graph.outputs)}
        return any(name in ends for name in look.names)

    def joins(self, look: GroupLook) -> list[ir.Node]:
        """The operators that force several tensors of a group onto one scale."""
        own = {id(member) for member in look.group.members}
        found = []
        for node, kind in self.exam.plan.nodes.items():
            if kind == "equal" and id(node.outputs[0]) in own:
                inputs = [node.inputs[i] for i in operators.data_inputs(node)]
                if len([v for v in inputs if v is not None and operators.constant(v) is None]) > 1:
                    found.append(node)
        return found

    def sources(self, look: GroupLook) -> dict[str, float]:
        """The tensors that bring their own range into a group, with the largest absolute value of each."""
        plan = self.exam.plan
        found = {}
        for member in look.group.members:
            if isinstance(member, Slot):
                continue
            producer = member.producer()
            if producer is not None and plan.nodes.get(producer) == "equal":
                continue
            found[str(member.name)] = self.reach(str(member.name))
        for (node, index), group in plan.requantized.items():
            value = node.inputs[index]
            if group is look.group and value is not None:
                maker = value.producer()
                fixed = FIXED.get(maker.op_type) if maker is not None else None
                name = str(value.name)
                found[name] = self.reach(name) or (0.0 if fixed is None else max(-fixed.lowest, fixed.highest))
        return {name: reach for name, reach in found.items() if reach > 0}

    def reach(self, name: str) -> float:
        """The largest absolute value of a tensor over calibration data; 0 where it is not known."""
        spread = self.calibration.get(name)
        if spread is not None and spread.samples:
            return spread.reach
        histogram = None if self.seen is None else self.seen.histograms.get(name)
        return 0.0 if histogram is None else max(abs(histogram.low), abs(histogram.high))

    def touching(self, look: GroupLook) -> list[ir.Node]:
        """The int8 operators that write or read a tensor of a group, in graph order."""
        names = {*look.names}
        plan = self.exam.plan
        found = []
        for node in plan.nodes:
            written = {str(value.name) for value in node.outputs}
            read = {str(value.name) for i in operators.data_inputs(node) if (value := node.inputs[i]) is not None}
            if names & (written | read):
                found.append(node)
                continue
            inner = [value for value in node.outputs if value in plan.inner]
            if any(str(reader.outputs[0].name) in names for value in inner for reader in value.consumers()):
                found.append(node)
        return found
