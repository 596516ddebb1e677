from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from haversack.convert.data import open_data
from haversack.convert.errors import DataError
from haversack.runtimes.engines import TensorSpec

INPUT = TensorSpec("x", "float32", ("n", 2))
MODULE = """
import numpy as np
calls = 0
def samples():
    global calls
    calls += 1
    for number in range(3):
        yield {"x": np.full((1, 2), number, "f4")}, number
def bare():
    for number in range(3):
        yield np.full(2, number, "f4"), None
def nothing():
    return iter(())
def broken():
    yield np.zeros(2, "f4"), 0
    raise KeyError("boom")
def shape(): yield np.zeros(3, "f4"), 0
def dtype(): yield np.zeros(2), 0
def label(): yield np.zeros(2, "f4"), "cat"
def item(): yield np.zeros(2, "f4")
def names(): yield {"y": np.zeros(2, "f4")}, 0
def nan(): yield np.full(2, np.nan, "f4"), 0
def shrinking():
    global calls
    calls += 1
    for number in range(3 - calls): yield np.zeros(2, "f4"), 0
number = 5
"""


@pytest.fixture(autouse=True)
def current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"samples_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


def spec(tmp_path: Path, function: str) -> str:
    return f"samples_{tmp_path.name}:{function}"


def test_a_function_is_called_anew_by_every_pass(tmp_path: Path) -> None:
    data = open_data(spec(tmp_path, "samples"), [INPUT])
    assert len(data) == 3
    for _ in range(2):
        batches = list(data.batches(2))
        assert [feeds["x"].tolist() for feeds, _ in batches] == [[[0, 0], [1, 1]], [[2, 2]]]
        assert [label.tolist() for _, label in batches if label is not None] == [[0, 1], [2]]


def test_one_array_without_its_batch_axis_and_without_label(tmp_path: Path) -> None:
    data = open_data(spec(tmp_path, "bare"), [INPUT])
    feeds, label = next(data.batches(3))
    assert feeds["x"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert label is None
    assert data.sha256 != open_data(spec(tmp_path, "samples"), [INPUT]).sha256


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("nothing", "yields nothing"),
        ("broken", "failed: KeyError: 'boom'"),
        ("shape", r"sample 0: x: expected float32 \[n, 2\], found float32 \[1, 3\]"),
        ("dtype", "sample 0: x: expected float32, found float64"),
        ("label", "sample 0: label: expected integers"),
        ("item", r"sample 0: expected \(inputs, label\), found ndarray"),
        ("names", "sample 0: expected an array named like each input"),
        ("nan", "NaN or infinity"),
        ("number", "has no function number"),
        ("missing", "has no function missing"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, function: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        open_data(spec(tmp_path, function), [INPUT])
    assert "\n" not in str(caught.value)


def test_a_module_that_is_missing() -> None:
    with pytest.raises(DataError, match="cannot import nowhere_at_all"):
        open_data("nowhere_at_all:samples", [INPUT])


def test_a_function_that_yields_another_number_later(tmp_path: Path) -> None:
    data = open_data(spec(tmp_path, "shrinking"), [INPUT])
    assert len(data) == 2
    with pytest.raises(DataError, match="yielded 2 samples at first and 1 now"):
        list(data.batches())


def test_two_inputs_need_a_dict(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a dict of the inputs x, z"):
        open_data(spec(tmp_path, "bare"), [INPUT, TensorSpec("z", "float32", (1,))])


def test_samples_are_not_shared_between_passes(tmp_path: Path) -> None:
    data = open_data(spec(tmp_path, "bare"), [INPUT])
    next(data.batches())[0]["x"][:] = 99
    assert np.array_equal(next(data.batches())[0]["x"], [[0, 0]])
