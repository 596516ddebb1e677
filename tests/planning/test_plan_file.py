"""A plan's file can be read, edited and given back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.compress.plan import ARITHMETICS, FLOATS, LayerPlan, Plan
from haversack.convert.errors import UsageError

integers = st.builds(
    LayerPlan,
    weights=st.just("int8"),
    bits=st.sampled_from([2.0, 2.5, 4.0, 7.25, 8.0]),
    granularity=st.sampled_from(["per-tensor", "per-channel"]),
)
fours = st.builds(LayerPlan, weights=st.just("int4"), granularity=st.sampled_from(["per-tensor", "per-channel"]))
floats = st.builds(LayerPlan, weights=st.sampled_from(FLOATS))
plans = st.builds(
    Plan,
    name=st.text(min_size=1),
    model=st.text(),
    arithmetic=st.sampled_from(ARITHMETICS),
    ranges=st.sampled_from(["minmax", "percentile", "mse", "entropy"]),
    methods=st.lists(st.sampled_from(["equalize", "bias-correction"])).map(tuple),
    default=st.one_of(integers, fours, floats),
    layers=st.dictionaries(st.text(), st.one_of(integers, fours, floats)),
)


@given(plans)
def test_what_is_written_is_read(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


def test_one_layer_a_line() -> None:
    plan = Plan("p", layers={"a": LayerPlan("int8", 3.5, "per-tensor"), "b": LayerPlan("float32")})
    assert '    "a": {"weights": "int8", "bits": 3.5, "granularity": "per-tensor"},\n' in plan.to_json()
    assert '    "b": {"weights": "float32"}\n' in plan.to_json()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"plan": 2}, "version 1"),
        ({"layer": {}}, "unknown layer"),
        ({"layers": {"conv": {"weights": "int3"}}}, "layer conv: weights 'int3' is none of int8, int4"),
        ({"layers": {"conv": {"bits": 9}}}, "layer conv: bits is a number from 2 to 8, not 9"),
        ({"layers": {"conv": {"bits": "4"}}}, "layer conv: bits is a number"),
        ({"layers": {"conv": {"width": 4}}}, "layer conv: unknown width; known are"),
        ({"layers": {"conv": "int8"}}, "layer conv: write it as"),
        ({"layers": []}, '"layers" is an object'),
        ({"arithmetic": "int7"}, "arithmetic 'int7' is none of"),
        ({"ranges": "best"}, "ranges 'best' is none of"),
    ],
)
def test_a_slip_is_named_with_what_is_known(edit: dict, said: str) -> None:
    whole = json.loads(Plan("p").to_json()) | edit
    with pytest.raises(UsageError, match=r"plan\.json") as error:
        Plan.from_json(json.dumps(whole), "plan.json")
    assert said in str(error.value)


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(UsageError, match="not JSON"):
        Plan.from_json("{")
