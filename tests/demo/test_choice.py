"""What a bundle keeps of its packing, and what the dashboard makes of it: fronts, verdicts, plans, engines."""

from __future__ import annotations

import html
import json
import math
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from streamlit.testing.v1 import AppTest

from haversack.convert import pack
from haversack.convert.bundle_contents import contents
from haversack.convert.outcome import Outcome
from haversack.convert.report import Pack
from haversack.demo import app as page
from haversack.demo import candidates, front_chart, plans
from haversack.runtimes import open_bundle

PLAN = {
    "plan": 1,
    "name": "mine",
    "arithmetic": "int8",
    "default": {"weights": "int8"},
    "layers": {"pointwise/BiasAdd": {"weights": "int8", "bits": 3.5}, "probabilities/MatMul": {"weights": "float32"}},
}

Packed = tuple[Path, Pack]


@pytest.fixture(scope="module")
def packed(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """The digits model for TFLite and ONNX Runtime with a budget and a plan."""
    path = tmp_path_factory.mktemp("chosen") / "digits.haversack"
    made = pack(
        digits / "digits.onnx",
        to=("tflite", "onnx"),
        recipes=("fp32", "fp16", "int8"),
        calibration=str(digits / "calibration.npz"),
        evaluation=str(digits / "evaluation.npz"),
        plan=json.dumps(PLAN),
        max_drop=1.0,
        max_size=30_000,
        objective="wire",
        output=path,
    )
    return path, made


def drawn(path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page on one bundle."""
    monkeypatch.setattr(sys, "argv", ["app.py", str(path)])
    app = AppTest.from_file(page.__file__, default_timeout=120).run()
    assert not app.exception, app.exception
    return app


def chosen(path: Path) -> candidates.Choices:
    with open_bundle(path) as bundle:
        return candidates.choices(bundle)


def facts(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the measurements, read without Haversack."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("manifest.json")), json.loads(archive.read("measurements.json"))


def changed(path: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The bundle with other measurements, which no hash covers."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    measured = json.loads(members["measurements.json"])
    change(measured)
    members["measurements.json"] = json.dumps(measured).encode()
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return to


def unbeaten(path: Path) -> set[str]:
    """Ids that no other variant of the target beats, by the definition, from the bundle's own JSON."""
    manifest, measured = facts(path)
    found = set()
    costs = {}
    for variant in manifest["variants"]:
        own = measured["variants"][variant["id"]]
        took = own["latencies"][0]["p50_ms"]
        numbers = [
            variant["file"]["bytes"],
            own["facts"]["brotli_bytes"],
            -own["facts"]["accuracy"]["difference"],
            took,
        ]
        costs[variant["id"]] = np.array(numbers)
    for variant in manifest["variants"]:
        own = costs[variant["id"]]
        rivals = [costs[v["id"]] for v in manifest["variants"] if v["target"] == variant["target"]]
        if not any((rival <= own).all() and (rival < own).any() for rival in rivals):
            found.add(variant["id"])
    return found


def test_a_bundle_keeps_what_its_packing_came_to(packed: Packed) -> None:
    """Field by field what `pack` returned, and what was asked of it."""
    path, made = packed
    kept = contents(path).outcome
    assert (kept.max_drop, kept.max_size, kept.objective, kept.confident) == (1.0, 30_000, "wire", False)
    assert (kept.max_wire, kept.max_latency, kept.device) == (None, None, None)
    for name in ("best", "front", "tried", "relaxing", "stages", "engines"):
        assert getattr(kept, name) == getattr(made, name), name
    assert set(kept.best) == {"tflite", "onnx"}
    assert kept.engines["onnx"].bytes > 1_000_000


def test_it_is_outside_of_what_is_hashed(packed: Packed, tmp_path: Path) -> None:
    """Without it the bundle is as intact, and says nothing."""
    path = changed(packed[0], tmp_path / "older.haversack", lambda measured: measured["facts"].pop("outcome"))
    assert facts(path)[0] == facts(packed[0])[0]
    assert contents(path).outcome == Outcome()


@pytest.mark.parametrize("older", [False, True], ids=["said", "found again"])
def test_the_front_is_what_nothing_beats(packed: Packed, tmp_path: Path, older: bool) -> None:
    """Against the definition by brute force; also where the bundle does not say it."""
    path = packed[0]
    if older:
        path = changed(path, tmp_path / "older.haversack", lambda measured: measured["facts"].pop("outcome"))
    found = chosen(path).candidates
    assert {each.id for each in found if each.on_front} == unbeaten(path)
    assert any(each.best for each in found) != older


@pytest.mark.parametrize("axis", list(candidates.AXES))
def test_a_panel_holds_the_bundles_numbers(packed: Packed, axis: str) -> None:
    """Every point's place, the stairs, and the budget's rules."""
    path, _ = packed
    manifest, measured = facts(path)
    choices = chosen(path)
    frame = front_chart.framed(choices, axis)
    panel = front_chart.panel(choices, "TFLite", frame)
    assert panel is not None
    spec = panel.to_dict()
    tables = spec["datasets"].values()
    rows = {row["variant"]: row for table in tables for row in table if "variant" in row}
    variants = [v for v in manifest["variants"] if v["target"] == "tflite"]
    assert set(rows) == {variant["compression"] for variant in variants}
    points = []
    for variant in variants:
        own, row = measured["variants"][variant["id"]], rows[variant["compression"]]
        cost = {
            candidates.DISK: variant["file"]["bytes"] / 1000,
            candidates.WIRE: own["facts"]["brotli_bytes"] / 1000,
            candidates.LATENCY: own["latencies"][0]["p50_ms"] * (1000 if frame.unit == "µs" else 1),
        }[axis]
        assert row["across"] == pytest.approx(cost)
        assert row["up"] == pytest.approx(100 * own["facts"]["accuracy"]["difference"])
        assert row["low"] == pytest.approx(100 * own["facts"]["accuracy"]["difference_low"])
        points.append((cost, row["up"], row["step"]))
    for cost, up, step in points:
        beaten = any(c <= cost and u >= up and (c < cost or u > up) for c, u, _ in points)
        twins = any(s for c, u, s in points if (c, u) == (cost, up))
        assert step != beaten or (not beaten and twins)
    said = {row["said"]: row for table in tables for row in table if "said" in row}
    assert said["budget: drop of 1 point"]["y"] == -1.0
    assert ("budget: 30 kB" in said) == (axis == candidates.DISK)
    assert spec["description"].startswith("TFLite, ")


def test_the_page_shows_the_choice(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget in words, a panel a target, and another axis on a click."""
    app = drawn(packed[0], monkeypatch)
    text = " ".join(each.value for each in app.markdown).replace("\\", "")
    assert "a drop of at most 1 point; at most 30,000 bytes on disk; best at wire" in text
    spoken = [json.loads(each.proto.spec)["description"] for each in app.get("vega_lite_chart")[:2]]
    assert [each.split(",")[0] for each in spoken] == ["TFLite", "ONNX Runtime"]
    assert all("on disk, kB" in each and "the packer's choice" in each for each in spoken)
    app.get("button_group")[1].set_value(candidates.LATENCY).run()
    assert "median of one call" in json.loads(app.get("vega_lite_chart")[0].proto.spec)["description"]


def test_verdicts_are_the_exact_tests(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """McNemar's p against SciPy's binomial test on the counts that are shown."""
    app = drawn(packed[0], monkeypatch)
    shown = cells(app, "hv-proof")
    assert len(shown) == 8
    for variant, (_, _, gained, lost, p, verdict) in shown.items():
        count = int(gained) + int(lost)
        expected = binomtest(int(gained), count).pvalue if count else 1.0
        assert float(p) == pytest.approx(expected, abs=0.006), variant
        assert verdict == facts(packed[0])[1]["variants"][variant]["facts"]["accuracy"]["verdict"]


def test_model_and_engine_add_up(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last column is the sum, with the engine as the packer found it."""
    manifest, measured = facts(packed[0])
    shown = cells(drawn(packed[0], monkeypatch), "hv-added")
    for variant in manifest["variants"]:
        _, model, _, engine, whole = shown[variant["id"]]
        size = measured["facts"]["outcome"]["engines"][variant["target"]]["bytes"]
        assert model == f"{variant['file']['bytes']:,}"
        assert engine.split()[0] == f"{size:,}"
        assert whole == f"{variant['file']['bytes'] + size:,}"


def test_a_plan_is_drawn_layer_by_layer(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most bits first, how each is held, and the plan's file as it lies in the bundle."""
    app = drawn(packed[0], monkeypatch)
    manifest, _ = facts(packed[0])
    variant = next(v for v in manifest["variants"] if v["compression"] == "mine")
    layers, said = plans.read(variant["recipe"]["plan"])
    assert [(each.name, each.bits, each.kind) for each in layers] == [
        ("probabilities/MatMul", 32.0, plans.FLOAT),
        ("pointwise/BiasAdd", 3.5, plans.INTEGER),
    ]
    assert "layers not listed: int8, per-channel" in said
    picture = json.loads(app.get("vega_lite_chart")[2].proto.spec)
    assert picture["description"].endswith("probabilities/MatMul 32; pointwise/BiasAdd 3.5.")
    assert app.selectbox(key=f"plan {packed[0]}").options == ["TFLite mine", "ONNX Runtime mine"]


@pytest.mark.parametrize(
    ("weights", "arithmetic", "bits"),
    [("int4", "int8", 4), ("palette3", "float16", 3), ("sparse50", "float16", 8), ("sparse2of4", "float32", 16)],
)
def test_bits_of_a_layer(weights: str, arithmetic: str, bits: float) -> None:
    """What a weight takes on average, tables and masks aside."""
    text = json.dumps({"plan": 1, "arithmetic": arithmetic, "layers": {"a": {"weights": weights}}})
    assert [each.bits for each in plans.read(text)[0]] == [bits]


@pytest.mark.parametrize(
    "outcome",
    [
        [],
        {"best": 3, "front": {"tflite": 7}, "tried": [{"name": 1}, 4], "stages": {"a": "b"}, "engines": {"onnx": {}}},
        {"max_drop": "much", "relaxing": "less", "front": [], "tried": {"a": 1}, "max_size": [1], "best": {"onnx": {}}},
        {"tried": [{"name": "<img src=x>", "family": "a", "bytes": 1, "cost": 1, "drop": 1, "samples": 1, "made": 1}]},
    ],
)
def test_another_form_is_left_out(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: object
) -> None:
    """No hash covers it, so it may hold anything; the page stays."""
    path = changed(packed[0], tmp_path / "odd.haversack", lambda m: m["facts"].__setitem__("outcome", outcome))
    app = drawn(path, monkeypatch)
    assert not app.error
    assert len(cells(app, "hv-proof")) == 8
    assert not any("<img" in each.proto.body for each in app.get("html"))


def test_a_plan_of_another_version_is_one_line() -> None:
    """An older release says that it does not know it."""
    with pytest.raises(ValueError, match="not a plan of version 1"):
        plans.read('{"plan": 2}')


def test_what_all_layers_begin_with_is_left_out() -> None:
    """Up to a slash, never the name itself."""
    layers = [plans.Layer(name, 4.0, "int4", "int4", plans.INTEGER) for name in ("f/conv/a", "f/conv_1/a", "f/dense")]
    tables = plans.chart(layers, "x").to_dict()["datasets"].values()
    assert [row["short"] for table in tables for row in table] == ["conv/a", "conv_1/a", "dense"]
    tables = plans.chart(layers[:1], "x").to_dict()["datasets"].values()
    assert [row["short"] for table in tables for row in table] == ["f/conv/a"]


points = st.lists(
    st.tuples(st.floats(1, 1000), st.floats(-10, 1), st.sampled_from(["best", "front", "beaten"]), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(points)
def test_names_cover_nothing(found: list[tuple[float, float, str, bool]]) -> None:
    """No name stands on a point or on another name, or leaves the panel."""
    rows = [
        {"across": x, "up": y, "kind": kind, "step": step, "variant": f"wire{index}.50"}
        for index, (x, y, kind, step) in enumerate(found)
    ]
    frame = front_chart.Frame(candidates.DISK, "kB", 1e-3, (0.9, 1200.0), (-11.0, 2.0))
    boxes: list[tuple[float, float, float, float]] = []
    spots = [(math.log(x / 0.9) / math.log(1200 / 0.9) * front_chart.WIDE, (2 - y) / 13 * front_chart.HIGH)
             for x, y, _, _ in found]  # fmt: skip
    for row, (x, y), place in zip(rows, spots, front_chart.placed(rows, frame), strict=True):
        if not place:
            continue
        assert row["kind"] != "beaten"
        dx, dy, align, _ = front_chart.PLACES[place]
        wide = front_chart.LETTER * len(str(row["variant"]))
        left = x + dx - {"left": 0, "center": wide / 2, "right": wide}[align]
        box = (left, y + dy - 6.5, left + wide, y + dy + 6.5)
        assert box[0] >= 0
        assert box[2] <= front_chart.WIDE
        for px, py in spots:
            assert not (box[0] < px < box[2] and box[1] < py < box[3])
        for other in boxes:
            apart = box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            assert apart
        boxes.append(box)


@given(st.floats(1e-3, 1e6), st.floats(1.05, 1e5))
def test_ticks_are_round_and_inside(low: float, ratio: float) -> None:
    """In ascending order, between the ends."""
    found = front_chart.ticks(low, low * ratio)
    assert found == sorted(found)
    assert all(low <= value <= low * ratio for value in found)
    assert found or ratio < 2.5


@pytest.mark.slow
def test_what_the_search_tried_is_listed(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a plan that was executed, with what it lost."""
    path = tmp_path / "searched.haversack"
    made = pack(
        digits / "digits.onnx",
        to=("onnx",),
        calibration=str(digits / "calibration.npz"),
        evaluation=str(digits / "evaluation.npz"),
        max_drop=1.0,
        output=path,
        jobs=1,
    )
    assert made.tried
    app = drawn(path, monkeypatch)
    body = next(each.proto.body for each in app.get("html") if "hv-plans" in each.proto.body)
    for each in made.tried:
        assert f"<td>{each.name}</td>" in body
        assert f"<td>{each.drop:+.2f}</td>" in body
    assert any("Time by stage" in each.value for each in app.caption)


def cells(app: AppTest, table: str) -> dict[str, list[str]]:
    """The text of a table's cells, by the row's variant."""
    body = next(each.proto.body for each in app.get("html") if f"hv-table {table}" in each.proto.body)
    found = {}
    for variant, row in re.findall(r'<tr data-variant="([^"]+)"[^>]*>(.*?)</tr>', body):
        found[variant] = [
            " ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split())
            for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)
        ]
    return found
