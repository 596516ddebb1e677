"""What the web target writes, looked at without a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from haversack.convert import convert, pack
from haversack.convert.errors import UnsupportedError, UsageError
from haversack.convert.names import single_file_output, target_of
from haversack.convert.targets.web import icons
from haversack.demo import table
from haversack.runtimes import load, open_bundle
from haversack.runtimes.engines.browser import vendored

ENGINE = vendored.PACKAGES["onnxruntime-web"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def embedded(page: str) -> dict[str, bytes]:
    found = re.findall(r'<script type="application/gzip" data-file="([^"]+)">([^<]*)</script>', page)
    return {html.unescape(name): gzip.decompress(base64.b64decode(packed)) for name, packed in found}


def test_the_manifest_names_every_file_by_its_hash(folder: Path) -> None:
    files = contents(folder)
    manifest = json.loads(files["manifest.json"])
    assert manifest["format"] == "haversack-web"
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert manifest["sha256"] == {name: hashes[name] for name in files if name not in ("manifest.json", "sw.js")}
    kept = json.loads(re.search(r"const FILES = (\{.*?\});", files["sw.js"].decode(), re.DOTALL)[1])
    assert kept.items() <= hashes.items()
    assert files.keys() - kept.keys() == {"sw.js", "serve.txt", "haversack.d.ts", "engine/LICENSE"}
    assert {f"engine/{file.name}": file.sha256 for file in ENGINE.files}.items() <= hashes.items()
    assert b"Microsoft" in files["engine/LICENSE"]


def test_nothing_in_it_names_another_place(folder: Path) -> None:
    """Of our own files: no address, but namespaces and the ones that `serve.txt` tells to open."""
    for name, content in contents(folder).items():
        if name.startswith("engine/") or name in ("model.onnx", "golden.bin", "serve.txt") or name.endswith(".png"):
            continue
        found = re.findall(rb"https?://[\w.]+", content)
        assert set(found) <= {b"http://www.w3.org"}, name


def test_golden_vectors_are_what_the_model_gives(folder: Path, digits: Path) -> None:
    """Read with NumPy alone, run by onnxruntime, and compared with the model it was made from."""
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / "golden.bin").read_bytes()
    source = onnxruntime.InferenceSession(str(digits / "digits.onnx"), providers=["CPUExecutionProvider"])
    assert len(manifest["golden"]["vectors"]) == 3

    def read(placed: dict[str, dict[str, object]]) -> dict[str, np.ndarray]:
        return {
            name: np.frombuffer(content, at["dtype"], int(np.prod(at["shape"])), at["offset"]).reshape(at["shape"])
            for name, at in placed.items()
        }

    for vector in manifest["golden"]["vectors"]:
        given, expected = read(vector["inputs"]), read(vector["outputs"])
        np.testing.assert_allclose(source.run(None, given)[0], expected["probabilities"], atol=1e-5)
    assert manifest["golden"]["tolerance"]["relative"] == 1e-4
    assert manifest["verification"]["by"].startswith("onnxruntime")


def test_the_same_model_gives_the_same_bytes(folder: Path, digits: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "again.web"
    again.parent.mkdir()
    convert(digits / "digits.onnx", to="web", output=again, inputs=str(digits / "evaluation.npz"))
    assert contents(again) == contents(folder)


def test_the_single_file_holds_the_same(folder: Path, single: Path) -> None:
    page = single.read_text(encoding="utf-8")
    files = contents(folder)
    inside = embedded(page)
    assert inside.keys() == {
        *("manifest.json", "model.onnx", "golden.bin", "engine/LICENSE"),
        *(f"engine/{file.name}" for file in ENGINE.files),
    }
    assert inside == {name: files[name] for name in inside}
    assert "connect-src 'none'" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page


@pytest.mark.usefixtures("folder")
def test_a_name_is_text_and_not_markup(digits: Path, tmp_path: Path) -> None:
    """A file may be called anything; its name stands in the page, the manifest and the single file."""
    name = '<img src=x onerror=alert(1)>&"é__FILES__'
    model = tmp_path / f"{name}.onnx"
    model.write_bytes((digits / "digits.onnx").read_bytes())
    page = tmp_path / "page.html"
    convert(model, output=page)
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert f"<h1>{html.escape(name)}</h1>" in text
    assert json.loads(embedded(text)["manifest.json"])["name"] == name


@pytest.mark.usefixtures("folder")
def test_an_unverified_folder_says_so(digits: Path, tmp_path: Path) -> None:
    made = convert(digits / "digits.onnx", to="web", output=tmp_path / "plain", verify=False)
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert not made.verified
    assert manifest["verification"]["verified"] is False
    assert manifest["golden"] == {
        "file": None, "tolerance": manifest["golden"]["tolerance"], "vectors": []
    }  # fmt: skip
    assert not (tmp_path / "plain" / "golden.bin").exists()


@pytest.mark.usefixtures("folder")
def test_only_what_haversack_made_is_replaced(digits: Path, tmp_path: Path) -> None:
    mine = tmp_path / "site"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match=r"exists already|did not make"):
            convert(digits / "digits.onnx", to="web", output=mine, force=force)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    (mine / "thesis.txt").unlink()
    convert(digits / "digits.onnx", to="web", output=mine, force=True)
    before = (mine / "model.onnx").stat().st_ino
    convert(digits / "digits.onnx", to="web", output=mine, force=True)
    assert (mine / "model.onnx").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.usefixtures("folder")
def test_sizes_are_those_of_the_files(digits: Path, tmp_path: Path) -> None:
    made = convert(digits / "digits.onnx", to="web", output=tmp_path / "digits.web").variant
    files = contents(tmp_path / "digits.web")
    parts = {part.name: part for part in made.parts}
    assert made.bytes == sum(map(len, files.values()))
    assert parts["model"].bytes == len(files["model.onnx"])
    assert abs(parts["model"].gzip_bytes - len(gzip.compress(files["model.onnx"], 9))) < 20
    assert parts["engine"].bytes == sum(len(files[f"engine/{file.name}"]) for file in ENGINE.files)
    aside = sum(len(files[name]) for name in ("serve.txt", "haversack.d.ts", "engine/LICENSE"))
    assert sum(part.bytes for part in made.parts) == made.bytes - aside
    assert made.own("bytes") == parts["model"].bytes + parts["page"].bytes


@pytest.mark.slow
def test_the_engines_compressed_sizes_are_right() -> None:
    import brotli

    if not vendored.is_here(ENGINE.name):
        pytest.skip("onnxruntime-web is not here: make vendor fetches it where npm is")
    for file in ENGINE.files:
        content = (vendored.folder(ENGINE.name) / file.name).read_bytes()
        assert len(brotli.compress(content, quality=11)) == pytest.approx(file.brotli_bytes, rel=0.01)
        assert len(gzip.compress(content, 9)) == pytest.approx(file.gzip_bytes, rel=0.01)


@pytest.mark.usefixtures("folder")
def test_a_bundle_holds_the_folder(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.haversack"
    evaluation = str(digits / "evaluation.npz")
    made = pack(
        digits / "digits.onnx",
        to=("onnx", "web"),
        recipes=("fp32",),
        evaluation=evaluation,
        output=path,
        max_size=100_000,
    )
    assert made.within == {"onnx/fp32": True, "web/fp32": True}  # the engine is no part of a budget
    assert [variant.latency is None for variant in made.variants] == [False, True]
    with open_bundle(path) as bundle:
        bundle.verify()
        shown = {row.id: row.bytes for row in table.rows(bundle)}  # without the engine, as other targets are
        assert shown == {f"{each.target}-{each.compression}": each.own("bytes") for each in made.variants}
        assert shown["web-fp32"] < 200_000 < bundle.variant("web-fp32").file.bytes
        extracted = bundle.artifact("web-fp32", tmp_path)
    assert (extracted / "engine" / "ort-wasm-simd-threaded.wasm").stat().st_size == ENGINE.files[2].bytes
    with load(path, variant="web-fp32") as model:
        assert model.check()
    with load(path) as model:
        assert model.variant is not None
        assert model.variant.id == "onnx-fp32"


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_plan_for_the_wire_is_searched_for_it_too(digits: Path, tmp_path: Path) -> None:
    made = pack(
        digits / "digits.onnx",
        to=["web"],
        output=tmp_path / "digits.haversack",
        max_drop=1.0,
        calibration=str(digits / "calibration.npz"),
        evaluation=str(digits / "evaluation.npz"),
    )
    int8, planned = (next(v for v in made.variants if v.compression.startswith(name)) for name in ("int8", "wire"))
    assert planned.verification.verified
    assert made.best == {"web": planned.compression}  # of a page the download counts, unless another objective is named
    assert (planned.own("brotli_bytes") or 0) < (int8.own("brotli_bytes") or 0)


def test_absence_of_the_engine_refuses_in_one_line(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendored, "VENDOR", tmp_path / "nothing")
    with pytest.raises(UnsupportedError) as raised:
        convert(digits / "digits.onnx", to="web", output=tmp_path / "digits.web")
    assert "onnxruntime-web 1.30.0 is not here; fetch it once with" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("folder")
def test_what_the_engine_lacks_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Where on int8: native onnxruntime has a kernel, onnxruntime-web has none (found in Chromium)."""
    kinds = {"c": onnx.TensorProto.BOOL, "a": onnx.TensorProto.INT8, "b": onnx.TensorProto.INT8}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Where", ["c", "a", "b"], ["y"], name="pick")],
        "test",
        [onnx.helper.make_tensor_value_info(name, kind, [4]) for name, kind in kinds.items()],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT8, [4])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "where.onnx")
    assert convert(tmp_path / "where.onnx", output=tmp_path / "native.onnx").verified
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UnsupportedError, match=r"web cannot hold this model: pick \(Where\): onnxruntime-web 1\.30\.0"):
        convert(tmp_path / "where.onnx", output=tmp_path / "where.web")
    assert sorted(tmp_path.iterdir()) == before


def test_names_and_outputs() -> None:
    assert target_of("web", Path("site")) == "web"
    assert target_of("web", Path("my.site")) == "web"
    assert target_of(None, Path("m.web")) == "web"
    assert target_of(None, Path("m.html")) == "web"
    with pytest.raises(UsageError, match="an artifact for web ends in"):
        target_of("web", Path("m.onnx"))
    assert single_file_output(Path("a/model.onnx"), "web", None) == Path("model.html")
    for target, output in (("onnx", None), ("web", Path("x.web"))):
        with pytest.raises(UsageError, match="single-file"):
            single_file_output(Path("model.onnx"), target, output)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_command_line_writes_both(digits: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from haversack.convert.cli import main; sys.exit(main())", "convert"]
    for flags, name in ((["--to", "web", "-o", "site"], "site"), (["--to", "web", "--single-file"], "digits.html")):
        done = subprocess.run(
            [*command, str(digits / "digits.onnx"), *flags], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "first visit" in done.stdout
        assert (tmp_path / name).exists()
    model = onnx.load(tmp_path / "site" / "model.onnx")
    onnx.checker.check_model(model)


def test_icons_are_png_and_svg() -> None:
    made = icons.icons()
    assert made.keys() == {"icon.svg", "icon-192.png", "icon-512.png"}
    image = pytest.importorskip("PIL.Image")
    import io

    with image.open(io.BytesIO(made["icon-192.png"])) as opened:
        assert (opened.size, opened.mode) == ((192, 192), "RGB")
        assert opened.getpixel((0, 0)) == tuple(int(icons.COLOR[at : at + 2], 16) for at in (1, 3, 5))
        assert opened.getpixel((60, 140)) == tuple(int(icons.LIGHT[at : at + 2], 16) for at in (1, 3, 5))
