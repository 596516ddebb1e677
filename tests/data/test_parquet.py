from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from haversack.convert.data import open_data
from haversack.convert.errors import DataError
from haversack.runtimes.engines import TensorSpec
from haversack.runtimes.preprocess import Preprocess

from .test_images import png

INPUT = TensorSpec("x", "float32", ("n", 2, 3))
VALUES = np.arange(12, dtype=np.float32).reshape(2, 2, 3)


def write(folder: Path, **columns: object) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="reading .parquet needs pyarrow")
    import pyarrow.parquet as parquet

    path = folder / "data.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("nested", [True, False])
def test_rows_are_samples(tmp_path: Path, nested: bool) -> None:
    cells = VALUES.tolist() if nested else VALUES.reshape(2, 6).tolist()
    data = open_data(write(tmp_path, x=cells, label=[3, 1], id=["a", "b"]), [INPUT])
    feeds, label = next(data.batches(2))
    assert len(data) == 2
    np.testing.assert_array_equal(feeds["x"], VALUES)
    assert feeds["x"].dtype == np.float32
    assert label is not None
    assert label.tolist() == [3, 1]


@pytest.mark.parametrize("struct", [True, False])
def test_a_column_of_images(tmp_path: Path, struct: bool) -> None:
    content = [png((1, 2, 3)), png((4, 5, 6))]
    cells = [{"bytes": one, "path": "p"} for one in content] if struct else content
    path = write(tmp_path, image=cells, label=[0, 1])
    spec = TensorSpec("x", "float32", (1, 4, 4, 3))
    data = open_data(path, [spec], Preprocess.from_spec("raw-0-255"))
    feeds, _ = next(data.batches(2))
    assert feeds["x"][:, 0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(DataError, match="say --preprocess"):
        open_data(path, [spec])


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"y": [[1.0]]}, "a column named like each input"),
        ({"x": VALUES.tolist(), "label": ["a", "b"]}, "row 0: label: expected integers"),
        ({"x": [[1.0, 2.0]]}, "row 0: x: expected float32"),
        ({"x": ["text"]}, "row 0: x: expected x float32"),
        ({"x": [[[1.0, 2.0], [3.0]]]}, "row 0: x: expected x float32"),
        ({"x": []}, "holds no rows"),
        ({"a": [b"1"], "b": [b"2"]}, "several columns of images"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, columns: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        open_data(write(tmp_path, **columns), [INPUT], Preprocess())
    assert "\n" not in str(caught.value)


def test_integers_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, x=[[300, 1]])
    with pytest.raises(DataError, match="do not fit int8"):
        open_data(path, [TensorSpec("x", "int8", (1, 2))])


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    write(tmp_path, x=[1])
    path = tmp_path / "data.parquet"
    path.write_text("text")
    with pytest.raises(DataError, match=r"not a readable \.parquet"):
        open_data(path, [INPUT])


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.parquet"
    path.write_text("x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        open_data(path, [INPUT])
