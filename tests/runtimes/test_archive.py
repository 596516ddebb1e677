"""Hostile and damaged zips."""

from __future__ import annotations

import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from haversack.convert.bundle import write_zip
from haversack.runtimes.archive import MAX_MEMBERS, Archive
from haversack.runtimes.errors import BundleError

GOOD = {"manifest.json": b"{}", "artifacts/a.onnx": b"abc" * 50, "golden/g.bin": b""}


def refused(path: Path, reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as caught:
        Archive(path)
    assert "\n" not in str(caught.value)


def stored(path: Path, names: list[str], change: Callable[[zipfile.ZipInfo], None] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names
        for name in names:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            if change:
                change(info)
            archive.writestr(info, b"content")
    return path


def test_a_good_archive_is_read(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", GOOD)
    with Archive(tmp_path / "a.zip") as archive:
        assert archive.sizes == {name: len(content) for name, content in GOOD.items()}
        assert {name: archive.read(name) for name in archive.sizes} == GOOD
        with pytest.raises(BundleError, match="missing"):
            archive.read("other")


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "/a",
        "a/../../b",
        "a//b",
        "./a",
        "a/",
        "C:/a",
        "a\\b",
        "a\0b",
        "a\nb",
        "",
        "a/..",
        "a./b",
        "a ",
        "x" * 501,
    ],
)
def test_unsafe_names(tmp_path: Path, name: str) -> None:
    refused(stored(tmp_path / "a.zip", [name]), "unsafe name|not a readable bundle")


@pytest.mark.parametrize("names", [["a", "a"], ["a/B", "a/b"], ["a", "a/b"], ["A/b", "a"]])
def test_names_that_collide(tmp_path: Path, names: list[str]) -> None:
    refused(stored(tmp_path / "a.zip", names), "two members|a file and a folder")


def test_a_symbolic_link(tmp_path: Path) -> None:
    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = 0o120777 << 16

    refused(stored(tmp_path / "a.zip", ["a"], link), "no plain file")


def test_compressed_members_so_that_no_bomb_can_be_packed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    refused(tmp_path / "a.zip", "compressed")


def test_too_many_members(tmp_path: Path) -> None:
    refused(stored(tmp_path / "a.zip", [f"m{n}" for n in range(MAX_MEMBERS + 1)]), "more than")


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_bytes_that_hide_outside_the_members(tmp_path: Path, where: str) -> None:
    path = tmp_path / "a.zip"
    if where == "between":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", b"1")
            assert archive.fp is not None
            archive.fp.write(b"hidden")
            archive.start_dir = archive.fp.tell()
            archive.writestr("b", b"2")
        refused(path, "directly behind")
        return
    stored(path, ["a"])
    content = path.read_bytes()
    path.write_bytes(b"hidden" + content if where == "before" else content + b"hidden")
    refused(path, "directly behind|comment")


@pytest.mark.parametrize(("offset", "format_"), [(18, "<I"), (22, "<I"), (14, "<I"), (8, "<H"), (6, "<H"), (30, "<B")])
def test_a_local_header_that_lies(tmp_path: Path, offset: int, format_: str) -> None:
    """Packed size, size, CRC, method, flags and the name, as PKWARE's APPNOTE 4.3.7 lays them out."""
    path = stored(tmp_path / "a.zip", ["abc"])
    content = bytearray(path.read_bytes())
    (value,) = struct.unpack_from(format_, content, offset)
    struct.pack_into(format_, content, offset, value ^ 1)
    path.write_bytes(content)
    refused(path, "contradict")


def test_members_that_share_bytes(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.zip", ["aa", "bb"])
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, second + 42, 0)  # its local header is the first member's
    path.write_bytes(content)
    refused(path, "directly behind")


def test_a_flipped_byte_is_found_by_its_crc(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_zip(path, GOOD)
    content = bytearray(path.read_bytes())
    content[content.index(b"abcabc")] ^= 1
    path.write_bytes(content)
    with Archive(path) as archive, pytest.raises(BundleError, match="damaged"):
        archive.read("artifacts/a.onnx")


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "fifo"])
def test_what_is_no_zip(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.haversack"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_text("text" if kind == "text" else "")
    refused(path, "cannot be opened|not a file|not a readable bundle")


def test_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_zip(path, GOOD)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        refused(path, "not a readable bundle|safe bundle")
