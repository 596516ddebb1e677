from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.data import open_data, synthetic
from haversack.convert.errors import DataError
from haversack.runtimes.engines import TensorSpec
from haversack.runtimes.preprocess import Preprocess

X = TensorSpec("x", "float32", ("n", 4, 2))
VALUES = np.arange(40, dtype=np.float32).reshape(5, 4, 2)


def save(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


@given(st.integers(1, 9))
def test_batches_are_the_arrays_in_order(size: int) -> None:
    labels = np.arange(5)
    data = open_data({"x": VALUES, "label": labels}, [X])
    assert len(data) == 5
    batches = list(data.batches(size))
    assert [len(feeds["x"]) for feeds, _ in batches[:-1]] == [size] * (len(batches) - 1)
    np.testing.assert_array_equal(np.concatenate([feeds["x"] for feeds, _ in batches]), VALUES)
    np.testing.assert_array_equal(np.concatenate([label for _, label in batches if label is not None]), labels)


def test_a_file_is_the_same_data_and_its_hash_is_the_files(tmp_path: Path) -> None:
    path = save(tmp_path, x=VALUES, label=np.arange(5, dtype=np.uint8)[:, None], ids=np.array(["a"] * 5))
    data = open_data(path, [X])
    assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "data.npz" in data.description
    feeds, label = next(data.batches(5))
    assert list(feeds) == ["x"]
    assert label is not None
    assert (label.dtype, label.tolist()) == (np.int64, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(feeds["x"], VALUES)


def test_without_labels_there_are_none() -> None:
    assert next(open_data({"x": VALUES}, [X]).batches(2))[1] is None


def test_a_mappings_hash_is_of_its_content() -> None:
    first, second = (open_data({"x": values}, [X]).sha256 for values in (VALUES, VALUES.copy()))
    assert first == second != open_data({"x": VALUES + 1}, [X]).sha256


def spec(*shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("x", dtype, shape)


def test_a_fixed_batch_takes_that_many_rows_and_whole_inputs_one_each() -> None:
    rows = open_data({"x": np.zeros((6, 3), np.float32), "label": np.arange(6)}, [spec(2, 3)])
    assert len(rows) == 3
    batches = list(rows.batches(1))
    assert [feeds["x"].shape for feeds, _ in batches] == [(2, 3)] * 3
    assert [label.tolist() for _, label in batches if label is not None] == [[0, 1], [2, 3], [4, 5]]
    whole = open_data({"x": np.zeros((6, 2, 3), np.float32), "label": np.arange(6)}, [spec(2, 3)])
    assert len(whole) == 6
    scalar = open_data({"x": np.arange(3, dtype=np.float32)}, [spec()])
    assert [float(feeds["x"]) for feeds, _ in scalar.batches()] == [0, 1, 2]
    with pytest.raises(DataError, match="only batches of 1"):
        next(rows.batches(2))


@pytest.mark.parametrize(
    ("arrays", "inputs", "reason"),
    [
        ({"y": VALUES}, [X], r"named like each input of the model: x float32 \[n, 4, 2\]; found y; rename"),
        ({}, [X], "found nothing"),
        ({"x": VALUES, "labels": np.arange(5)}, [X], "found `labels`; rename it"),
        ({"x": VALUES[:, :3]}, [X], r"x: expected float32 \[n, 4, 2\], found float32 \[5, 3, 2\]"),
        ({"x": VALUES.reshape(5, 8)}, [X], r"reshape it: x.reshape\(-1, 4, 2\)"),
        ({"x": VALUES[0]}, [X], r"lacks the axis of samples: x\[None\]"),
        ({"x": VALUES.astype("f8")}, [X], r"found float64 \[5, 4, 2\]; convert it: x.astype\('float32'\)"),
        ({"x": VALUES.astype("u1")}, [X], "or, if these are raw images, say --preprocess"),
        ({"x": np.full((1, 4, 2), np.nan, np.float32)}, [X], "row 0 holds NaN or infinity"),
        ({"x": VALUES[:0]}, [X], "holds no samples"),
        ({"x": np.zeros((5, 3, 8, 8), np.float32)}, [spec("n", 8, 8, 3)], r"x.transpose\(0, 2, 3, 1\)"),
        ({"x": np.zeros((5, 8, 8, 3), np.float32)}, [spec("n", 3, 8, 8)], r"channels-first: x.transpose\(0, 3, 1, 2\)"),
        ({"x": np.zeros((5, 3), np.float32)}, [spec(2, 3)], "takes 2 rows at once, found 5"),
        ({"x": VALUES, "label": np.arange(4)}, [X], r"label: expected \[5\], found \[4\]"),
        ({"x": VALUES, "label": np.eye(5)}, [X], r"label.argmax\(axis=1\)"),
        ({"x": VALUES, "label": np.arange(5.0)}, [X], "label: expected integers, found float64"),
        ({"x": VALUES, "label": np.arange(5) - 1}, [X], "count from 0, found -1"),
        ({"x": VALUES, "z": VALUES[:3]}, [X, TensorSpec("z", "float32", ("n", 4, 2))], "numbers of samples: x 5, z 3"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_remedy(
    arrays: dict[str, np.ndarray], inputs: list[TensorSpec], reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        open_data(arrays, inputs)
    assert "\n" not in str(caught.value)


def test_uint8_images_in_an_array_are_prepared() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 7, 3), np.uint8)
    data = open_data({"x": images}, [spec("n", 3, 6, 7)], Preprocess.from_spec("unit"))
    feeds, _ = next(data.batches(3))
    np.testing.assert_array_equal(feeds["x"], (images.transpose(0, 3, 1, 2) / 255.0).astype(np.float32))
    assert "prepared from images" in data.description
    raw = open_data({"x": images}, [spec("n", 6, 7, 3, dtype="uint8")], Preprocess.from_spec("unit"))
    np.testing.assert_array_equal(next(raw.batches(3))[0]["x"], images)
    with pytest.raises(DataError, match=r"data|arrays.*takes no images"):
        open_data({"x": images}, [spec("n", 6)], Preprocess())


@pytest.mark.parametrize("kind", ["npy", "text", "pickle", "empty"])
def test_a_file_that_is_no_npz(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.npz"
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, VALUES)
    elif kind == "pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    else:
        path.write_text("text" if kind == "text" else "")
    with pytest.raises(DataError, match=r"data\.npz") as caught:
        open_data(path, [X])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "reason"), [("none.npz", "no such data"), ("data.csv", "unknown form of data")])
def test_other_paths(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(DataError, match=reason):
        open_data(tmp_path / name, [X])


def test_the_shared_keyword_spotting_set(shared_data: Path) -> None:
    data = open_data(shared_data / "kws_evaluation.npz", [TensorSpec("input_1", "float32", ("batch", 49, 10, 1))])
    labels = np.concatenate([label for _, label in data.batches(100) if label is not None])
    assert (len(data), len(labels), set(labels.tolist())) == (450, 450, set(range(12)))
    with pytest.raises(DataError, match=r"input_1 float32 \[1, 30, 1, 40\]; found specs, labels"):
        open_data(
            shared_data / "mlperf_tiny" / "sww_calibration.npz", [TensorSpec("input_1", "float32", (1, 30, 1, 40))]
        )


INPUTS = [TensorSpec("a", "float32", ("n", 50, 4)), TensorSpec("b", "int64", (2, 3)), TensorSpec("c", "bool", ())]


def test_synthetic_inputs_are_seeded_and_say_so() -> None:
    first, again, other = (synthetic(INPUTS, 8, seed) for seed in (1, 1, 2))
    assert first.synthetic
    assert (first.sha256, len(first)) == (again.sha256, 8)
    assert first.sha256 != other.sha256
    feeds, label = next(first.batches(1))
    assert label is None
    assert {name: (array.shape, array.dtype.name) for name, array in feeds.items()} == {
        "a": ((1, 50, 4), "float32"), "b": ((2, 3), "int64"), "c": ((), "bool"),
    }  # fmt: skip
    values = np.concatenate([feeds["a"] for feeds, _ in first.batches()])
    # 1,600 standard normal values: the mean's standard error is 0.025, the deviation's 0.018; five of each.
    assert abs(values.mean()) < 0.125
    assert abs(values.std() - 1) < 0.09
    assert not open_data({"x": VALUES}, [X]).synthetic


def test_synthetic_inputs_need_sizes() -> None:
    with pytest.raises(DataError, match="width is symbolic"):
        synthetic([TensorSpec("a", "float32", ("n", "width"))], 1, 0)
