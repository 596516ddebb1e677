"""Calibration and evaluation data held apart, against sets compared by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.data import open_data
from haversack.convert.data.overlap import apart, sample_hash
from haversack.convert.errors import DataError
from haversack.runtimes.engines import TensorSpec

SPEC = TensorSpec("x", "float32", ("n", 2))
numbers = st.lists(st.integers(0, 12), min_size=1, max_size=12)


def arrays(values: list[int]) -> dict[str, np.ndarray]:
    return {"x": np.array([[value, -value] for value in values], np.float32)}


@given(numbers, numbers)
def test_what_is_in_both_is_left_out_of_the_calibration(own: list[int], held: list[int]) -> None:
    calibration, evaluation = open_data(arrays(own), [SPEC]), open_data(arrays(held), [SPEC])
    hashes = [sample_hash(feeds) for feeds, _ in evaluation.batches(1)]
    left = [value for value in own if value not in held]
    if len(left) < len(own) / 2:
        with pytest.raises(DataError, match="give other calibration data"):
            apart(calibration, hashes, "evaluation")
        return
    kept, told = apart(calibration, hashes, "evaluation")
    for size in (1, 3):
        rows = [feeds["x"] for feeds, _ in kept.batches(size)]
        assert np.concatenate(rows)[:, 0].tolist() == left
    assert len(kept) == len(left)
    assert bool(told) == (len(left) < len(own))
    if told:
        first = next(index for index, value in enumerate(own) if value in held)
        assert told.startswith(f"{len(own) - len(left)} of {len(own)} calibration samples")
        assert f"number {first} of the arrays given" in told


def test_a_hash_knows_names_dtypes_and_shapes() -> None:
    value = np.zeros((1, 4), np.float32)
    same = [{"x": value}, {"x": value.copy()}, {"x": np.asfortranarray(value)}]
    other = [{"y": value}, {"x": value.reshape(2, 2)}, {"x": value.view(np.int32)}, {"x": value + 1}]
    assert len({sample_hash(feeds) for feeds in same}) == 1
    assert len({sample_hash(feeds) for feeds in (*same, *other)}) == 5


def test_the_shared_keyword_sets_have_two_samples_in_common(shared_data: Path) -> None:
    spec = TensorSpec("input_1", "float32", ("n", 49, 10, 1))
    calibration = open_data(shared_data / "kws_calibration.npz", [spec])
    evaluation = open_data(shared_data / "kws_evaluation.npz", [spec])
    hashes = [sample_hash(feeds) for feeds, _ in evaluation.batches(1)]
    kept, told = apart(calibration, hashes, evaluation.description)
    with np.load(shared_data / "kws_calibration.npz") as own, np.load(shared_data / "kws_evaluation.npz") as held:
        equal = (own["input_1"][:, None] == held["input_1"][None]).all(axis=(2, 3, 4)).any(axis=1)
    assert len(kept) == np.count_nonzero(~equal) == 98
    assert told.startswith("2 of 100 calibration samples")
