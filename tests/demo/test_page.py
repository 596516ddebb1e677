"""The dashboard's page, drawn by Streamlit without a browser."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from haversack.convert.bundle import NewVariant, write_bundle
from haversack.demo import app as page
from haversack.runtimes import load, open_bundle

Draw = Callable[..., AppTest]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Draws the page on bundles as the command line would."""

    def drawn(*bundles: Path) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app.py", *map(str, bundles)])
        app = AppTest.from_file(page.__file__, default_timeout=120).run()
        assert not app.exception, app.exception
        return app

    return drawn


def rows_of(app: AppTest, table: str = "hv-table") -> dict[str, list[str]]:
    """The text of the cells of the first table of that class, by the row's variant."""
    body = next(element.proto.body for element in app.get("html") if f'class="{table}' in element.proto.body)
    found = {}
    for variant, cells in re.findall(r'<tr data-variant="([^"]+)">(.*?)</tr>', body):
        texts = re.findall(r"<td[^>]*>(.*?)</td>", cells)
        found[variant] = [html.unescape(re.sub(r"<[^>]+>", " ", text)).split() for text in texts]
    return {variant: [" ".join(words) for words in cells] for variant, cells in found.items()}


def zipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_table_is_what_the_bundle_says(draw: Draw, bundle_path: Path) -> None:
    """Every cell against the JSON in the bundle's zip, read without Haversack."""
    shown = rows_of(draw(bundle_path))
    members = zipped(bundle_path)
    manifest, measured = json.loads(members["manifest.json"]), json.loads(members["measurements.json"])
    assert list(shown) == [variant["id"] for variant in manifest["variants"]]
    assert len(shown) == 6
    for variant in manifest["variants"]:
        facts = measured["variants"][variant["id"]]
        accuracy = facts["facts"]["accuracy"]
        target, compression, size, gzip_size, brotli_size, score, *more, verified = shown[variant["id"]]
        difference, agreement, *latency = more
        assert target == {"tflite": "TFLite", "coreml": "Core ML", "onnx": "ONNX Runtime"}[variant["target"]]
        assert compression == variant["compression"]
        assert size == f"{variant['file']['bytes']:,}"
        assert gzip_size == f"{facts['facts']['gzip_bytes']:,}"
        assert brotli_size == f"{facts['facts']['brotli_bytes']:,}"
        low, high = 100 * accuracy["low"], 100 * accuracy["high"]
        assert score == f"{100 * facts['accuracy']:.2f} {low:.2f} to {high:.2f}"
        low, high = 100 * accuracy["difference_low"], 100 * accuracy["difference_high"]
        assert difference == f"{100 * accuracy['difference']:+.2f} {low:+.2f} to {high:+.2f}"
        assert agreement == f"{100 * facts['agreement']:.2f}"
        if variant["target"] == "coreml":
            assert latency == ["–"] * 3
            assert verified.replace(" ", "") == "yesreference-evaluated"
        else:
            taken = facts["latencies"][0]
            microseconds = [1000 * taken[key] for key in ("p50_ms", "p95_ms", "p99_ms")]
            # Three significant digits are shown: half a unit of the third is 0.5 % at most.
            assert [float(text) for text in latency] == pytest.approx(microseconds, rel=0.0051)
            assert verified == "yes"


def test_the_order_can_be_chosen(draw: Draw, bundle_path: Path) -> None:
    """By size, the smallest comes first."""
    app = draw(bundle_path)
    app.get("button_group")[0].set_value("smallest").run()
    sizes = [int(cells[2].replace(",", "")) for cells in rows_of(app).values()]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_an_input_gives_the_engines_own_output(draw: Draw, bundle_path: Path) -> None:
    """What the page shows for a golden vector is what the runtime gives, for each variant."""
    app = draw(bundle_path)
    variants = next(widget for widget in app.multiselect if widget.label == "Variants")
    ids = ["tflite-int8", "coreml-fp32", "onnx-fp32"]
    variants.set_value(ids)
    app.number_input(key="sample").set_value(1).run()
    shown = rows_of(app, "hv-table hv-tried")
    assert list(shown) == ids
    with open_bundle(bundle_path) as bundle:
        feeds, _ = bundle.golden("tflite-fp32")[1]
    for variant in ids:
        with load(bundle_path, variant=variant) as model:
            scores = model(feeds)["probabilities"][0]
            engine = "reference-evaluated" if model.engine.emulated else f"{model.engine.name} {model.engine.version}"
        assert shown[variant][1] == str(scores.argmax())
        assert shown[variant][2] == f"{scores.max():.4f}"
        assert shown[variant][4].replace("- ", "-") == engine


def test_an_uploaded_npz_is_tried(draw: Draw, bundle_path: Path, digits: Path) -> None:
    """Samples with labels, from a file; the page names the label and predicts it."""
    with np.load(digits / "evaluation.npz") as archive:
        images, labels = archive["image"][20:24], archive["label"][20:24]
    data = io.BytesIO()
    np.savez(data, image=images, label=labels)
    app = draw(bundle_path)
    app.file_uploader(key="input").set_value(("mine.npz", data.getvalue(), "application/octet-stream")).run()
    app.number_input(key="sample").set_value(3).run()
    assert not app.exception
    with load(bundle_path, variant="onnx-fp32") as model:
        expected = str(model({"image": images[3:4]})["probabilities"].argmax())
    shown = rows_of(app, "hv-table hv-tried")
    assert {cells[1] for cells in shown.values()} == {expected}
    assert f"label\\: {labels[3]}" in app.get("image")[0].proto.imgs[0].caption


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (None, "npz"),
        ({"picture": np.zeros((1, 8, 8, 1), np.float32)}, "image"),
        ({"image": np.zeros((2, 9, 9, 1), np.float32)}, "9"),
    ],
    ids=["no npz", "another name", "another shape"],
)
def test_an_input_that_does_not_fit_is_one_line(
    draw: Draw, bundle_path: Path, arrays: dict[str, Any] | None, says: str
) -> None:
    """A wrong file says what is wrong, and the rest of the page stays."""
    data = io.BytesIO(b"no zip at all" if arrays is None else b"")
    if arrays is not None:
        np.savez(data, **arrays)
    app = draw(bundle_path)
    app.file_uploader(key="input").set_value(("bad.npz", data.getvalue(), "application/octet-stream")).run()
    assert not app.exception
    assert len(app.error) == 1
    assert says in app.error[0].value
    assert "\n" not in app.error[0].value
    assert app.get("download_button")


def test_an_uploaded_bundle_is_shown(draw: Draw, bundle_path: Path, unverified_path: Path) -> None:
    """It stands before what the command line named; its own empty states are said."""
    app = draw(bundle_path)
    data = unverified_path.read_bytes()
    app.file_uploader(key="bundle").set_value(("mine.haversack", data, "application/octet-stream")).run()
    assert not app.exception
    assert list(rows_of(app)) == ["tflite-fp32"]
    assert rows_of(app)["tflite-fp32"][-1] == "no"
    assert "No variant of this bundle was verified" in app.warning[0].value
    assert any("came without inputs" in info.value for info in app.info)


def test_without_a_bundle_the_page_says_what_to_do(draw: Draw) -> None:
    """The empty state names the command."""
    app = draw()
    assert "haversack demo" in app.code[0].value


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("cut", r"damaged\.haversack"),
        ("text", r"damaged\.haversack"),
        ("artifact", "SHA"),
        ("manifest", r"manifest\.json"),
        ("missing", r"damaged\.haversack"),
    ],
)
def test_a_damaged_bundle_is_one_line(draw: Draw, bundle_path: Path, tmp_path: Path, damage: str, says: str) -> None:
    """No table, no traceback, one error."""
    path = tmp_path / "damaged.haversack"
    members = zipped(bundle_path)
    if damage == "cut":
        path.write_bytes(bundle_path.read_bytes()[:-2000])
    elif damage == "text":
        path.write_text("no bundle")
    elif damage == "artifact":
        name = next(name for name in members if name.endswith("fp32.tflite"))
        content = members[name]
        rewritten(path, members | {name: content[:-1] + bytes([content[-1] ^ 1])})
    elif damage == "manifest":
        rewritten(path, members | {"manifest.json": b'{"schema": "1.0"}'})
    app = draw(path)
    assert len(app.error) == 1
    assert "\n" not in app.error[0].value
    assert says in app.error[0].value
    assert not any('class="hv-table' in element.proto.body for element in app.get("html"))


def test_text_of_a_bundle_is_text(draw: Draw, bundle_path: Path, tmp_path: Path) -> None:
    """A name or note that is HTML or Markdown is shown as it is written, so it can fetch nothing."""
    hostile = '<img src="http://evil.example/x.png"> ![x](http://evil.example/y.png) $x$ :material/home:'
    with open_bundle(bundle_path) as bundle:
        manifest = bundle.manifest
        variant = bundle.variant("tflite-fp32")
        artifact = bundle.artifact("tflite-fp32", tmp_path)
    tensors = [dataclasses.replace(tensor, name=tensor.name) for tensor in manifest.inputs]
    path = tmp_path / "hostile.haversack"
    new = NewVariant(
        id=variant.id, target="tflite", compression="fp32", artifact=artifact, inputs=variant.inputs,
        outputs=variant.outputs, notes=(hostile,), verified=True, judged_by=hostile,
    )  # fmt: skip
    write_bundle(
        path,
        name=hostile,
        inputs=tensors,
        outputs=manifest.outputs,
        variants=[new],
        provenance=dataclasses.replace(manifest.provenance, source=hostile, training_data=hostile),
    )
    app = draw(path)
    for element in app.get("html"):
        assert "<img" not in element.proto.body
    for text in (*app.markdown, *app.caption):
        assert "![x](" not in text.value
        assert "<img" not in text.value.replace("\\<", "")
    notes = next(text.value for text in app.markdown if "evil" in text.value)
    assert r"\!\[x\]\(http\:\/\/evil\.example" in notes
