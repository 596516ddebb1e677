"""What a plan can say of repairs, and that it is done."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from haversack.convert.compress.mixed import apply_plan
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.doctor.examine import scales_of
from haversack.convert.errors import UsageError
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.work import Work


@pytest.fixture
def work(concat) -> Work:
    made = Work.begin(concat.model)
    made.calibration = made.open(concat.calibration)
    return made


def outputs(model, data) -> np.ndarray:
    evaluator = Evaluator(model)
    return np.concatenate([next(iter(evaluator.run(feeds).values())) for feeds, _ in data.batches(1)])


def test_a_plan_of_repairs_survives_its_file() -> None:
    plan = Plan("p", methods=("equalize",), floats=("join",), tensors={"a": "minmax"}, layers={"l": LayerPlan()})
    assert Plan.from_json(plan.to_json()) == plan
    assert "floats" not in Plan("p").to_json()
    with pytest.raises(UsageError, match="tensor a"):
        Plan.from_json(plan.to_json().replace('"minmax"', '"widest"'))


def test_a_float_join_leaves_each_input_its_own_scale(work) -> None:
    observed = work.observed()
    shared = scales_of(apply_plan(work.sized, Plan("p"), observed)[0])
    assert shared["branch_small"] == shared["branch_large"]
    plan = Plan("p", floats=("join",), layers={"Conv_1": LayerPlan("float32")})
    apart = scales_of(apply_plan(work.sized, plan, observed)[0])
    assert apart["branch_large"].scale > 100 * apart["branch_small"].scale
    assert "relu1/Relu" not in apart


def test_a_tensor_has_the_rule_that_the_plan_gives_it(work) -> None:
    observed = work.observed()
    assert observed.activations is not None
    histogram = observed.activations.histograms["branch_large"]
    scale = scales_of(apply_plan(work.sized, Plan("p", tensors={"branch_small": "minmax"}), observed)[0])[
        "branch_large"
    ]
    assert scale.highest == pytest.approx(histogram.high, rel=0.01)
    other = scales_of(apply_plan(work.sized, Plan("p"), observed)[0])
    assert (
        other["relu2/Relu"]
        == scales_of(apply_plan(work.sized, Plan("p", tensors={"branch_small": "minmax"}), observed)[0])["relu2/Relu"]
    )


@pytest.mark.parametrize(
    "methods", [("equalize",), ("second-order", "bias-correction"), ("equalize", "second-order", "bias-correction")]
)
def test_methods_of_a_plan_help_and_are_the_same_each_time(work, methods) -> None:
    observed = work.observed(equalized="equalize" in methods)
    own = outputs(work.sized, work.calibration)
    plan = Plan("p", methods=methods)
    first, _, again = apply_plan(work.sized, plan, observed)
    found = outputs(first, work.calibration)
    np.testing.assert_array_equal(found, outputs(again(work.sized), work.calibration))
    np.testing.assert_array_equal(found, outputs(apply_plan(work.sized, plan, observed)[0], work.calibration))
    plain = outputs(apply_plan(work.sized, Plan("p"), work.observed())[0], work.calibration)
    assert np.square(found - own).mean() < np.square(plain - own).mean()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"floats": ("nowhere",)}, "no such node"),
        ({"floats": ("Conv_1",)}, "has weights"),
        ({"tensors": {"nowhere": "minmax"}}, "no activation of that name"),
        ({"methods": ("prayer",)}, "none of equalize"),
        ({"arithmetic": "float32", "default": LayerPlan("float16"), "floats": ("join",)}, "arithmetic in integers"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(work, change, said) -> None:
    with pytest.raises(UsageError, match=said):
        apply_plan(work.sized, dataclasses.replace(Plan("p"), **change), work.observed())
