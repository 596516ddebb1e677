"""An `.npz` that is read row by row gives what one in memory gives, and says what is wrong with it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haversack.convert.data import arrays, npz_member, open_data
from haversack.convert.data.npz_member import NpzMember
from haversack.convert.errors import DataError
from haversack.runtimes.engines import TensorSpec
from haversack.runtimes.preprocess import Preprocess

X, Y = TensorSpec("x", "float32", ("n", 4, 2)), TensorSpec("y", "int32", ("n",))


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGE_BYTES", 0)
    monkeypatch.setattr(npz_member, "CHUNK_BYTES", 100)  # three rows


@pytest.fixture(params=[np.savez, np.savez_compressed])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    request.param(
        tmp_path / "d.npz", x=rng.normal(size=(23, 4, 2)).astype(np.float32), y=np.arange(23, dtype=np.int32),
        label=np.arange(23), other=np.array(["a"]),
    )  # fmt: skip
    return tmp_path / "d.npz"


@pytest.mark.parametrize("size", [1, 4, 23, 50])
def test_it_is_the_same_data(path: Path, size: int) -> None:
    data = open_data(path, [X, Y])
    with np.load(path) as held:
        for _ in range(2):  # every pass reads anew
            batches = list(data.batches(size))
            for name in ("x", "y"):
                np.testing.assert_array_equal(np.concatenate([feeds[name] for feeds, _ in batches]), held[name])
            labels = np.concatenate([label for _, label in batches if label is not None])
            np.testing.assert_array_equal(labels, held["label"])


def test_two_passes_at_once_do_not_disturb_each_other(path: Path) -> None:
    data = open_data(path, [X, Y])
    pairs = zip(data.batches(1), data.batches(1), strict=True)
    assert all(np.array_equal(one["x"], other["x"]) for (one, _), (other, _) in pairs)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 22), st.integers(0, 23)), max_size=8))
def test_rows_anywhere(path: Path, places: list[tuple[int, int]]) -> None:
    with np.load(path) as held, NpzMember(path, "x").rows() as rows:
        for start, stop in places:
            np.testing.assert_array_equal(rows[start:stop], held["x"][start:stop])
            np.testing.assert_array_equal(rows[start], held["x"][start])


def test_what_does_not_fit_is_refused_as_of_any_npz(tmp_path: Path) -> None:
    values = np.zeros((9, 4, 2), np.float32)
    for changed, said in (
        (values.astype(np.float64), r"expected float32, found float64"),
        (values.transpose(0, 2, 1).copy(), r"expected float32 \[n, 4, 2\]"),
        (np.where(np.arange(9)[:, None, None] == 7, np.nan, values).astype(np.float32), "row 7 holds NaN"),
    ):
        np.savez(tmp_path / "d.npz", x=changed)
        with pytest.raises(DataError, match=said):
            open_data(tmp_path / "d.npz", [X])


def test_images_are_prepared_row_by_row(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(256, size=(5, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", image=images)
    spec = TensorSpec("image", "float32", ("n", 3, 8, 8))
    data = open_data(tmp_path / "d.npz", [spec], Preprocess.from_spec("unit"))
    held = open_data({"image": images}, [spec], Preprocess.from_spec("unit"))
    for (one, _), (other, _) in zip(data.batches(2), held.batches(2), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])


def member(shape: tuple[int, ...], content: bytes, dtype: str = "<f4", *, fortran: bool = False) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": fortran, "shape": shape})
    return header.getvalue() + content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (member((1 << 40, 4, 2), b"\0" * 64), "not as long as its header says"),
        (member((2, 4, 2), b"\0" * 65), "not as long as its header says"),
        (member((2, 4, 2), b"\0" * 128, "|O"), "pickled"),
        (member((2, 4, 2), b"\0" * 64, fortran=True), "one after the other"),
        (b"\x93NUMPY\x01", "not a readable"),
        (b"", "not a readable"),
    ],
)
def test_damaged_arrays_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=said):
        open_data(tmp_path / "d.npz", [X])


def test_a_file_that_is_damaged_inside_is_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((9, 4, 2), np.float32))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[300] ^= 1  # in the array: the archive's own check no longer fits
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a readable"):
        list(open_data(tmp_path / "d.npz", [X]).batches(1))
