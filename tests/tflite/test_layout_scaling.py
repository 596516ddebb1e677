"""The layout pass stays near linear in the graph's size."""

from __future__ import annotations

import time
from collections.abc import Mapping

import onnx_ir as ir
import pytest

from haversack.convert.hub.load import to_hub
from haversack.convert.targets.tflite.layout import assign
from haversack.convert.targets.tflite.layout_blocks import Free, Slot
from haversack.convert.targets.tflite.layout_perms import Perm

scaling = pytest.importorskip("benchmarks.layout_scaling")


@pytest.mark.slow
def test_five_thousand_nodes_of_every_kind_take_less_than_three_seconds_of_cpu() -> None:
    hub = to_hub(ir.from_proto(scaling.network("mixture", 5000)))
    start = time.process_time()
    layout = assign(hub)
    assert time.process_time() - start < 3  # 0.6 to 1.0 s on the machine where it was written
    assert any(reason.reason.startswith("input x keeps its order") for reason in layout.transposes.values())


def test_the_operands_of_an_operator_are_not_each_spread_to_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """DenseNet's blocks read all that came before: work goes with the operands, not with their square."""
    calls = 0
    spread = Free.spread

    def counted(self: Free, known: Slot, perm: Perm) -> Mapping[Slot, Perm] | None:
        nonlocal calls
        calls += len(self.slots)
        return spread(self, known, perm)

    hub = to_hub(ir.from_proto(scaling.network("dense", 100)))
    operands = sum(len(node.inputs) + len(node.outputs) for node in hub.graph)
    monkeypatch.setattr(Free, "spread", counted)
    assign(hub)
    # Two frames once each; the labels' two states and the rewriting once each; half as much again where one fails.
    assert calls <= 6 * operands
