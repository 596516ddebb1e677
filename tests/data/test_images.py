from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from haversack.convert.data import open_data
from haversack.convert.errors import DataError
from haversack.runtimes.engines import TensorSpec
from haversack.runtimes.preprocess import Preprocess

INPUT = TensorSpec("x", "float32", ("n", 4, 4, 3))
RAW = Preprocess.from_spec("raw-0-255")


def png(level: int | tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (4, 4)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, level).save(file, "PNG")  # type: ignore[arg-type]
    return file.getvalue()


def write(folder: Path, files: dict[str, bytes], kind: str) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return folder / "data.zip"
    for name, content in files.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / "data"


FILES = {"cat/2.png": png((2, 3, 4)), "cat/1.PNG": png((1, 1, 1)), "ant/3.png": png((3, 3, 3)), "readme.txt": b"text"}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_by_class(tmp_path: Path, kind: str) -> None:
    data = open_data(write(tmp_path, FILES, kind), [INPUT], RAW)
    assert (len(data), data.classes) == (3, ["ant", "cat"])
    feeds, labels = next(data.batches(3))
    assert labels is not None
    assert labels.tolist() == [0, 1, 1]
    assert feeds["x"][:, 0, 0].tolist() == [[3, 3, 3], [1, 1, 1], [2, 3, 4]]
    assert feeds["x"].dtype == np.float32
    assert [len(batch["x"]) for batch, _ in data.batches(2)] == [2, 1]


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("names", "classes", "labels"),
    [
        (["a.png", "b.png"], None, None),
        (["top/b/1.png", "top/a/1.png"], ["a", "b"], [0, 1]),
        (["10_k/1.png", "2_c/1.png", "0_a/1.png"], ["a", "1", "c", *"3456789", "k"], [0, 10, 2]),
        (["0/1.png", "1/1.png"], ["0", "1"], [0, 1]),
        (["__MACOSX/._1.png", "a/.hidden.png", "a/1.png", "b/1.png"], ["a", "b"], [0, 1]),
    ],
)
def test_where_the_labels_come_from(
    tmp_path: Path, kind: str, names: list[str], classes: list[str] | None, labels: list[int] | None
) -> None:
    data = open_data(write(tmp_path, {name: png(0) for name in names}, kind), [INPUT], RAW)
    assert data.classes == classes
    found = [label for _, label in data.batches()]
    assert found == [None, None] if labels is None else [int(one[0]) for one in found if one is not None] == labels


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.txt": b""}, "no images in it"),
        ({"a/1.png": png(0), "2.png": png(0)}, "folders of one level"),
        ({"a/1.png": png(0), "b/c/1.png": png(0)}, "folders of one level"),
        ({"1/1.png": png(0), "2/1.png": png(0)}, "count from 0; rename"),
        ({"0_a/1.png": png(0), "0_b/1.png": png(0)}, "must differ"),
    ],
)
def test_images_that_are_not_sorted_into_classes(
    tmp_path: Path, kind: str, files: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        open_data(write(tmp_path, files, kind), [INPUT], RAW)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"text", "1.png: not a readable image"),
        (png(0)[:40], "1.png: not a readable image"),
        (png(0, "I;16"), "not 8 bits a channel"),
        (png(0, "1", (20_000, 20_000)), "not a readable image: .*decompression bomb"),
    ],
    ids=["text", "cut", "16 bits", "bomb"],
)
def test_a_bad_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    data = open_data(write(tmp_path, {"a/1.png": content}, "folder"), [INPUT], RAW)
    with pytest.raises(DataError, match=reason) as caught:
        next(data.batches())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "level", "pixel"),
    [("L", 7, [7, 7, 7]), ("RGBA", (1, 2, 3, 0), [1, 2, 3]), ("LA", (9, 0), [9, 9, 9]), ("1", 1, [255] * 3)],
)
def test_other_modes_become_rgb(tmp_path: Path, mode: str, level: int | tuple[int, ...], pixel: list[int]) -> None:
    data = open_data(write(tmp_path, {"1.png": png(level, mode)}, "folder"), [INPUT], RAW)
    assert next(data.batches())[0]["x"][0, 0, 0].tolist() == pixel


def test_images_need_preprocessing_unless_the_input_is_pixels(tmp_path: Path) -> None:
    path = write(tmp_path, FILES, "folder")
    with pytest.raises(DataError, match=r"how pixels become x float32 \[n, 4, 4, 3\] is not known; say --preprocess"):
        open_data(path, [INPUT])
    pixels = open_data(path, [TensorSpec("x", "uint8", (1, 4, 4, 3))])
    assert next(pixels.batches())[0]["x"].dtype == np.uint8
    with pytest.raises(DataError, match=r"data: x float32 .*say layout"):
        open_data(path, [TensorSpec("x", "float32", (1, 3, 4, 3))], RAW)
    with pytest.raises(DataError, match="images feed one input, and the model has 2"):
        open_data(path, [INPUT, TensorSpec("z", "float32", (1,))], RAW)


def test_hashes(tmp_path: Path) -> None:
    packed = write(tmp_path, FILES, "zip")
    assert open_data(packed, [INPUT], RAW).sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()
    folder = write(tmp_path, FILES, "folder")
    first = open_data(folder, [INPUT], RAW).sha256
    (folder / "readme.txt").write_text("other")
    assert open_data(folder, [INPUT], RAW).sha256 == first
    (folder / "cat" / "2.png").rename(folder / "cat" / "9.png")
    assert open_data(folder, [INPUT], RAW).sha256 != first


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, FILES, "folder")
    (tmp_path / "secret.png").write_bytes(png(9))
    (folder / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads out of the folder"):
        open_data(folder, [INPUT], RAW)


def test_a_hostile_zip_is_never_extracted(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = write(inner, {"../../a/1.png": png(1), "../../b/1.png": png(2)}, "zip")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="unsafe name in the zip"):
        open_data(path, [INPUT], RAW)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"a/1.png": bytes((64 << 20) + 1)}, "zip")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="larger than 64 MiB"):
        next(open_data(path, [INPUT], RAW).batches())


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_file_that_is_no_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable zip"):
        open_data(path, [INPUT], RAW)


def test_the_shared_cifar10_set(shared_data: Path) -> None:
    data = open_data(shared_data / "cifar10_calibration.zip", [TensorSpec("x", "float32", (1, 32, 32, 3))], RAW)
    assert len(data) == 500
    assert data.classes is not None
    assert (data.classes[0], data.classes[9]) == ("airplane", "truck")
    with zipfile.ZipFile(shared_data / "cifar10_calibration.zip") as archive:
        name = sorted(archive.namelist())[0]
        expected = np.asarray(Image.open(archive.open(name)).convert("RGB"))
    feeds, label = next(data.batches())
    np.testing.assert_array_equal(feeds["x"][0], expected)
    assert label is not None
    assert label.tolist() == [int(name[0])]
