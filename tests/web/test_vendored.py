"""The vendored files: those of the table, and what is said where they are not there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from haversack.convert.targets.web import vendor
from haversack.convert.targets.web.vendor import VendorError, fetch, licence
from haversack.runtimes.engines.browser import vendored
from haversack.runtimes.engines.browser.vendored import File, Package
from haversack.runtimes.errors import EngineError


@pytest.mark.parametrize("name", vendored.PACKAGES)
def test_what_is_here_is_what_the_table_says(name: str) -> None:
    package = vendored.PACKAGES[name]
    if not vendored.is_here(name):
        pytest.skip(f"{name} is not here: make vendor fetches it where npm is")
    where = vendored.folder(name)
    for file in package.files:
        content = (where / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    assert package.copyright in (where / "LICENSE").read_text(encoding="utf-8")
    assert {path.name for path in where.iterdir()} == {"LICENSE", *(file.name for file in package.files)}


def test_versions_and_licences_are_exact() -> None:
    for name, package in vendored.PACKAGES.items():
        assert name == package.name
        assert package.version.count(".") == 2
        text = licence(package)
        assert package.copyright in text
        assert "{" not in text
        assert {"MIT": "free of charge", "Apache-2.0": "Apache License"}[package.licence] in text


def test_their_absence_is_one_line_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendored, "VENDOR", tmp_path)
    assert not vendored.is_here("onnxruntime-web")
    with pytest.raises(EngineError) as raised:
        vendored.folder("onnxruntime-web")
    message = str(raised.value)
    assert "\n" not in message
    assert message == (
        "onnxruntime-web 1.30.0 is not here; fetch it once with "
        "`python -m haversack.convert.targets.web.vendor` (needs npm)"
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package of one file of five bytes."""
    file = File("run.mjs", "dist/run.mjs", 5, hashlib.sha256(b"right").hexdigest())
    package = Package("@scope/small", "1.2.3", "MIT", "Copyright (c) Someone", (file,))
    monkeypatch.setitem(vendored.PACKAGES, package.name, package)
    return package


def npm(folder: Path, content: bytes, member: str = "package/dist/run.mjs") -> str:
    """A program that packs what npm would have fetched, and writes down how it was called."""
    archive = folder / "source.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    program = folder / "npm"
    program.write_text(
        f"#!{sys.executable}\nimport json, shutil, sys\n"
        f"open({str(folder / 'called.json')!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
        f"shutil.copy({str(archive)!r}, 'scope-small-1.2.3.tgz')\n"
    )
    program.chmod(0o755)
    return str(program)


def test_a_package_is_fetched_whole(tmp_path: Path, small: Package) -> None:
    root = tmp_path / "vendor"
    fetch(small, root, npm(tmp_path, b"right"))
    assert json.loads((tmp_path / "called.json").read_text())[:2] == ["pack", "@scope/small@1.2.3"]
    assert (root / "@scope/small/run.mjs").read_bytes() == b"right"
    assert (root / "@scope/small/LICENSE").read_text().startswith("MIT License\n\nCopyright (c) Someone\n")
    assert [path.name for path in root.iterdir()] == ["@scope"]


@pytest.mark.parametrize(("content", "member", "said"), [
    (b"wrong", "package/dist/run.mjs", "run.mjs has another checksum"),
    (b"rightly", "package/dist/run.mjs", "run.mjs has 7 bytes, not 5"),
    (b"right", "package/run.mjs", "holds no file dist/run.mjs"),
])  # fmt: skip
def test_another_file_is_refused_and_what_was_there_stays(
    tmp_path: Path, small: Package, content: bytes, member: str, said: str
) -> None:
    root = tmp_path / "vendor"
    fetch(small, root, npm(tmp_path, b"right"))
    with pytest.raises(VendorError, match=said):
        fetch(small, root, npm(tmp_path, content, member))
    assert vendored.problems(small, root / small.name) == []
    assert [path.name for path in root.iterdir()] == ["@scope"]


def test_a_damaged_file_is_noticed_and_fetched_anew(
    tmp_path: Path, small: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendored, "VENDOR", tmp_path / "vendor")
    program = npm(tmp_path, b"right")
    fetch(small, tmp_path / "vendor", program)
    (vendored.folder(small.name) / "run.mjs").write_bytes(b"wrong")
    with pytest.raises(EngineError, match=r"run\.mjs has another checksum; fetch it anew"):
        vendored.folder(small.name)
    monkeypatch.setattr(vendor.shutil, "which", lambda _: program)
    assert vendor.main([small.name, "--into", str(tmp_path / "vendor")]) == 0
    assert vendored.problems(small, tmp_path / "vendor" / small.name) == []


@pytest.mark.parametrize(("flags", "code"), [([], 1), (["--if-possible"], 0)])
def test_without_npm_one_line_says_so(tmp_path: Path, flags: list[str], code: int) -> None:
    command = [sys.executable, "-m", "haversack.convert.targets.web.vendor", "onnxruntime-web", "--into", str(tmp_path)]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([*command, *flags], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "onnxruntime-web 1.30.0 cannot be fetched: there is no npm on this machine"
        + ("; nothing will run in a browser" if flags else "")
    ]
