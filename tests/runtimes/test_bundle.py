from __future__ import annotations

import dataclasses
import json
import os
import random
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from haversack.convert.bundle import ALIGNMENT, NewVariant, write_bundle, write_zip
from haversack.convert.errors import UsageError
from haversack.runtimes import load, open_bundle
from haversack.runtimes.digest import path_sha256
from haversack.runtimes.errors import BundleError, HaversackError

from .conftest import MODEL_INPUT, MODEL_OUTPUT, PROVENANCE, double_bundle, new_variants


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_was_packed_comes_out(tmp_path: Path) -> None:
    path, manifest = double_bundle(tmp_path)
    with open_bundle(path) as bundle:
        assert bundle.manifest == manifest
        assert bundle.measurements.variants["tflite-fp32"].latencies[0].p50_ms == 0.1
        assert bundle.measurements.variants["tflite-fp32"].facts == {"k": [1]}
        (tmp_path / "out").mkdir()
        out = bundle.artifact("onnx-fp32", into=tmp_path / "out")
        assert out.read_bytes() == (tmp_path / "double.onnx").read_bytes()
        inputs, expected = bundle.golden("tflite-fp32")[1]
        np.testing.assert_array_equal(inputs["x"] * 2, expected["y"])
        with pytest.raises(BundleError, match="onnx-fp32, tflite-fp32"):
            bundle.artifact("nope", into=tmp_path)
        with pytest.raises(BundleError, match="cannot extract"):
            bundle.artifact("onnx-fp32", into=tmp_path / "out")


def test_a_folder_is_one_artifact(tmp_path: Path) -> None:
    package = tmp_path / "m.mlpackage"
    (package / "Data" / "deep").mkdir(parents=True)
    (package / "Manifest.json").write_bytes(b"{}")
    (package / "Data" / "deep" / "weight.bin").write_bytes(bytes(range(256)))
    variant = NewVariant("coreml-fp16", "coreml", "fp16", package, (MODEL_INPUT,), (MODEL_OUTPUT,))
    path, manifest = double_bundle(tmp_path, variants=[variant])
    assert manifest.variants[0].file.bytes == 258
    assert manifest.variants[0].file.sha256 == path_sha256(package)
    (tmp_path / "out").mkdir()
    with open_bundle(path) as bundle:
        out = bundle.artifact("coreml-fp16", into=tmp_path / "out")
        with pytest.raises(BundleError, match="folder"):
            bundle.artifact_bytes("coreml-fp16")
    assert path_sha256(out) == path_sha256(package)
    assert (out / "Data" / "deep" / "weight.bin").read_bytes() == bytes(range(256))


def test_more_than_a_zip_holds_is_refused_before_it_is_read(tmp_path: Path) -> None:
    artifact = tmp_path / "m.tflite"
    with artifact.open("wb") as file:
        file.truncate((1 << 31) - 1)  # sparse: it takes no room, and the manifest makes it too much
    variant = NewVariant("tflite-fp32", "tflite", "fp32", artifact, (MODEL_INPUT,), (MODEL_OUTPUT,))
    half = tmp_path / "n.tflite"
    half.write_bytes(b"TFL3")
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"at most 2 GiB, and this one would hold 2\.0 GiB"):
        double_bundle(tmp_path, variants=[dataclasses.replace(variant, companions=(half,))])
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert not (tmp_path / "double.haversack").exists()


def test_a_folders_hash_depends_on_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    for number, contents in enumerate([{"a": b"xy", "b": b""}, {"a": b"x", "b": b"y"}, {"a": b"", "b": b"xy"}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    assert len({path_sha256(tmp_path / str(number)) for number in range(3)}) == 3


def test_the_same_contents_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = double_bundle(tmp_path)[0].read_bytes()
    os.utime(tmp_path / "double.onnx", (1, 1))
    assert double_bundle(tmp_path, "again.haversack")[0].read_bytes() == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    dated = double_bundle(tmp_path, "dated.haversack")[0]
    assert dated.read_bytes() != first
    with zipfile.ZipFile(dated) as archive:
        assert {info.date_time for info in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        double_bundle(tmp_path, "never.haversack")
    assert sorted(p.name for p in tmp_path.glob("*.haversack")) == [
        "again.haversack", "dated.haversack", "double.haversack",
    ]  # fmt: skip


def test_artifacts_can_be_mapped(bundle: Path) -> None:
    content = bundle.read_bytes()
    for name, member in members(bundle).items():
        if member:
            assert content.index(member) % ALIGNMENT == 0, name


def test_the_manifest_holds_no_measurement(tmp_path: Path) -> None:
    with_, without = double_bundle(tmp_path)[0], double_bundle(tmp_path, "b.haversack", measurements=None)[0]
    assert members(with_)["manifest.json"] == members(without)["manifest.json"]
    assert "measurements.json" not in members(without)
    with open_bundle(without) as bundle:
        assert bundle.measurements.latency("tflite-fp32", "litert") is None


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(bundle: Path) -> None:
    """Every bit belongs to something that is checked, or to a timestamp, padding or attribute that nothing reads."""
    good = bundle.read_bytes()
    with open_bundle(bundle) as opened:
        manifest, artifact = opened.manifest, opened.artifact_bytes("onnx-fp32")
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(good)
        damaged[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        bundle.write_bytes(damaged)
        try:
            with open_bundle(bundle) as opened:
                opened.verify()
                assert opened.manifest == manifest
                assert opened.artifact_bytes("onnx-fp32") == artifact
        except BundleError:
            refused += 1
    assert refused > 200  # 273 when this was written; the rest hit timestamps, attributes and padding


@pytest.mark.parametrize("which", ["artifacts/double.onnx", "golden/"])
def test_content_swapped_under_a_valid_zip_is_found_by_its_hash(bundle: Path, which: str) -> None:
    contents = members(bundle)
    name = next(name for name in contents if name.startswith(which))
    contents[name] = bytes(len(contents[name]))
    write_zip(bundle, contents)
    with open_bundle(bundle) as opened, pytest.raises(BundleError, match="SHA-256"):
        opened.verify()
    with pytest.raises(BundleError, match="SHA-256"):
        load(bundle, variant="onnx-fp32", verify=True)


def test_members_and_manifest_must_agree(bundle: Path) -> None:
    good = members(bundle)
    for change, reason in [
        ({"artifacts/extra.onnx": b"x"}, "not in the manifest"),
        ({"artifacts/double.onnx": good["artifacts/double.onnx"] + b"x"}, "the manifest says"),
        ({"artifacts/double.onnx": None}, "is missing"),
        ({"manifest.json": None}, "manifest.json is missing"),
        ({"manifest.json": b"{}"}, "schema"),
        ({"measurements.json": b"[]"}, "expected an object"),
        ({"measurements.json": b'{"variants": {"v": {"latencies": [{}]}}}'}, "engine is missing"),
    ]:
        write_zip(bundle, {name: c for name, c in (good | change).items() if c is not None})
        with pytest.raises(BundleError, match=reason):
            open_bundle(bundle)


def test_a_golden_array_must_fill_its_shape(bundle: Path) -> None:
    contents = members(bundle)
    document = json.loads(contents["manifest.json"])
    document["variants"][0]["golden"][0]["inputs"]["x"]["shape"] = [1 << 40, 1 << 40]
    write_zip(bundle, contents | {"manifest.json": json.dumps(document).encode()})
    with open_bundle(bundle) as opened, pytest.raises(BundleError, match="does not hold"):
        opened.golden("onnx-fp32")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    variants = new_variants(tmp_path)
    before = sorted(tmp_path.iterdir())
    common = {"name": "m", "inputs": [MODEL_INPUT], "outputs": [MODEL_OUTPUT], "provenance": PROVENANCE}
    for bad, error, reason in [
        ([], BundleError, "no variant"),
        ([variants[0], variants[0]], UsageError, "two files of the bundle are called double.onnx"),
        (
            [NewVariant("bad id", "onnx", "fp32", variants[0].artifact, (MODEL_INPUT,), (MODEL_OUTPUT,))],
            BundleError,
            "id",
        ),
    ]:
        with pytest.raises(error, match=reason):
            write_bundle(tmp_path / "m.haversack", variants=bad, **common)
        assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(HaversackError, match="named"):
        write_bundle(tmp_path / "m.zip", variants=variants, **common)


def test_an_existing_bundle_is_kept_unless_forced(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        double_bundle(bundle.parent)
    assert bundle.read_bytes() == before
    double_bundle(bundle.parent, force=True, labels=None)
    assert bundle.read_bytes() != before
