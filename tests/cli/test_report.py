"""Reports go to JSON and come back; names and sizes are read as they are written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haversack.convert import measured, names, report
from haversack.convert.compress import recipes
from haversack.convert.errors import Blocker, UsageError
from haversack.convert.targets import ALIASES, TARGETS


@settings(deadline=None)  # Reports are large by now, and machines busy.
@given(st.from_type(report.Conversion))
def test_a_conversion_comes_back(made: report.Conversion) -> None:
    again = report.decode(report.Conversion, json.loads(json.dumps(report.encode(made))))
    assert report.encode(again) == report.encode(made)
    assert type(again.variant.verification) is measured.Verification
    assert isinstance(again.variant.notes, tuple)


@settings(deadline=None)
@given(st.from_type(report.Pack))
def test_a_pack_comes_back(made: report.Pack) -> None:
    assert report.encode(report.decode(report.Pack, json.loads(json.dumps(report.encode(made))))) == report.encode(made)


def test_blockers_come_back_whole() -> None:
    found = report.Inspection(None, (report.Preflight("tflite", "fp32", (Blocker("n", "Op", "why", "what"),)),))
    assert report.decode(report.Inspection, report.encode(found)) == found


def test_what_is_not_finite_is_null() -> None:
    assert report.encode({"a": float("inf"), "b": [float("nan"), 1.5]}) == {"a": None, "b": [None, 1.5]}


def test_the_light_lists_are_the_real_ones() -> None:
    """`names.py` repeats them because their own modules import numpy."""
    assert names.RECIPES == recipes.RECIPES
    assert set(names.SUFFIXES.values()) == set(TARGETS)
    assert names.ALIASES == ALIASES


@pytest.mark.parametrize(
    ("text", "size"), [("200KB", 200_000), ("1.5MiB", 1_572_864), ("4096", 4096), ("2 GiB", 2**31), ("7b", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert names.size_of(text) == size


@pytest.mark.parametrize("text", ["", "KB", "-1", "1TBx", "1e400", "0"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        names.size_of(text)


def test_hyperparameters() -> None:
    assert names.hyperparameters_of('{"rate": 0.1, "steps": 3}') == {"rate": 0.1, "steps": 3}
    assert names.hyperparameters_of("rate=0.1, steps=3") == {"rate": "0.1", "steps": "3"}
    for wrong in ("rate", '{"a": [1]}', "[1]", "=1"):
        with pytest.raises(UsageError, match="--hyperparameters"):
            names.hyperparameters_of(wrong)
