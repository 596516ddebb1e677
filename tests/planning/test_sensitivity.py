"""Sensitivity: what is measured through shortcuts is what the whole model gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from haversack.convert.compress.mixed import Observed, held_weights, planned_layers
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.planning import sensitivity
from haversack.convert.planning.change import compare, judged_values
from haversack.convert.planning.room import entropy

CANDIDATES = (LayerPlan("int8", 3.0, "per-tensor"), LayerPlan("int4"), LayerPlan("palette4"), LayerPlan("float16"))


def wanted(model: ir.Model) -> dict[str, tuple[LayerPlan, ...]]:
    return dict.fromkeys(planned_layers(model), CANDIDATES)


def test_rows_are_what_the_whole_model_gives(model: ir.Model, observed: Observed, samples: list) -> None:
    few = samples[:20]
    found = sensitivity.measure(model, wanted(model), observed, few)
    (judged,) = judged_values(model)

    def run(which: ir.Model) -> np.ndarray:
        return np.concatenate([Evaluator(which, [judged]).run(feeds)[judged] for feeds in few])

    own = run(model)
    for name in planned_layers(model):
        for plan in CANDIDATES:
            expected = compare([own], [run(held_weights(model, name, plan, observed)[0])])
            assert found.rows[name][plan].change.cost == pytest.approx(expected.cost, rel=1e-6, abs=1e-12)


def test_activations_are_measured_once_a_layer_and_count_for_integers_only(
    model: ir.Model, observed: Observed, samples: list
) -> None:
    found = sensitivity.measure(model, wanted(model), observed, samples[:20], ranges=Plan("p"))
    for name, rows in found.rows.items():
        rounding = rows[None].change.cost
        assert rounding > 0
        assert found.cost(name, CANDIDATES[0]) == rows[CANDIDATES[0]].change.cost + rounding
        assert found.cost(name, LayerPlan("float16")) == rows[LayerPlan("float16")].change.cost


def test_what_was_measured_is_kept_and_a_broken_line_is_measured_anew(
    model: ir.Model, observed: Observed, samples: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = samples[:8]
    first = sensitivity.measure(model, wanted(model), observed, few, store=tmp_path)
    (path,) = tmp_path.iterdir()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:40])  # as a process that was killed leaves it
    calls: list[int] = []
    own = sensitivity._layer

    def counted(model, layer, plans, *rest):
        calls.append(len(plans))
        return own(model, layer, plans, *rest)

    monkeypatch.setattr(sensitivity, "_layer", counted)
    again = sensitivity.measure(model, wanted(model), observed, few, store=tmp_path)
    assert calls == [1], "only the one that was cut off"
    assert again.rows == first.rows
    third = sensitivity.measure(model, wanted(model), observed, few, store=tmp_path)
    assert calls == [1], "and now nothing"
    assert third.rows == first.rows


def test_other_samples_are_another_measurement(
    model: ir.Model, observed: Observed, samples: list, tmp_path: Path
) -> None:
    one = {next(iter(planned_layers(model))): CANDIDATES[:1]}
    sensitivity.measure(model, one, observed, samples[:4], store=tmp_path)
    sensitivity.measure(model, one, observed, samples[4:8], store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_processes_give_the_same_rows(
    model: ir.Model, observed: Observed, samples: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = sensitivity.measure(model, wanted(model), observed, samples[:8], jobs=1)
    monkeypatch.setattr(sensitivity, "WORTH_PROCESSES", 0)
    assert sensitivity.measure(model, wanted(model), observed, samples[:8], jobs=2).rows == alone.rows


def test_entropy_is_bits_a_symbol() -> None:
    assert entropy(np.array([0, 1, 0, 1])) == 1.0
    assert entropy(np.zeros(5, np.int8)) == 0.0
    assert entropy(np.arange(256)) == pytest.approx(8.0)
