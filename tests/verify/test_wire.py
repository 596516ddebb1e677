"""Sizes over the wire, against the libraries' own decompressors and one-shot results."""

from __future__ import annotations

import gzip
from pathlib import Path

import brotli
import numpy as np
import pytest

from haversack.convert import wire


@pytest.fixture
def content() -> bytes:
    return np.random.default_rng(0).integers(0, 9, 20_000, dtype=np.uint8).tobytes()


def test_a_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert wire.gzip_size(tmp_path / "a") == len(gzip.compress(content, 9))
    assert wire.brotli_size(tmp_path / "a") == len(brotli.compress(content, quality=11))
    assert wire.brotli_size(tmp_path / "a") < wire.gzip_size(tmp_path / "a") < len(content)  # type: ignore[operator]


def test_a_folder_is_one_stream_over_its_sorted_files(content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "m.mlpackage"
    (folder / "Data").mkdir(parents=True)
    for name in ("b", "Data/a", "a"):
        (folder / name).write_bytes(content)
    found = wire.brotli_size(folder)
    assert found == len(brotli.compress(content * 3, quality=11))
    assert found < 2 * len(brotli.compress(content, quality=11))  # What repeats is sent once.


def test_large_artifacts_are_not_measured_unless_asked(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(content)
    assert wire.brotli_size(tmp_path / "a", most=len(content) - 1) is None
    assert wire.brotli_size(tmp_path / "a", most=None) is not None
    monkeypatch.setattr(wire, "GZIP_BYTES", len(content) - 1)
    assert wire.gzip_size(tmp_path / "a") is None
