"""`pack` with a budget: what is delivered keeps it, and the plan that comes with it can be given back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from haversack.convert import pack
from haversack.convert.compress.mixed import planned_layers
from haversack.convert.compress.plan import Plan
from haversack.convert.errors import UsageError
from haversack.convert.plans import plans
from haversack.convert.report import Pack
from haversack.convert.work import Work
from haversack.runtimes import load
from haversack.runtimes.bundle import open_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """The digits model, searched within a point."""
    return make(folder, tmp_path_factory.mktemp("packed") / "digits.haversack", max_drop=1.0)


def make(folder: Path, path: Path, **options: object) -> Pack:
    return pack(
        folder / "digits.onnx",
        to=("tflite", "coreml", "onnx"),
        output=path,
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        **options,
    )


def test_every_target_has_a_planned_variant_within_the_budget(packed: Pack) -> None:
    for target in ("tflite", "coreml", "onnx"):
        planned = [v for v in packed.variants if v.target == target and v.compression not in ("fp32", "fp16", "int8")]
        assert any(packed.within[f"{target}/{v.compression}"] for v in planned), target
        assert all(v.verification.verified for v in planned)
        whole = {v.compression: v for v in packed.variants if v.target == target}
        assert whole[packed.best[target]].bytes == min(
            v.bytes for v in whole.values() if packed.within[f"{target}/{v.compression}"]
        )
        assert packed.best[target] in packed.front[target]


def test_a_plan_for_the_wire_is_smaller_over_it_than_int8_and_no_larger_on_disk(packed: Pack) -> None:
    tflite = {v.compression: v for v in packed.variants if v.target == "tflite"}
    wire = [v for name, v in tflite.items() if name.startswith("wire")]
    assert wire
    for variant in wire:
        assert variant.brotli_bytes < 0.8 * tflite["int8"].brotli_bytes
        assert variant.bytes <= tflite["int8"].bytes


def test_everything_that_was_executed_is_told(packed: Pack) -> None:
    assert {row.family for row in packed.tried} == {"size", "wire", "weights"}
    made = {v.compression for v in packed.variants}
    assert {row.name for row in packed.tried if row.made} == {row.name for row in packed.tried} & made
    assert {"calibrating", "searching for wire", "measuring latency"} <= set(packed.stages)


def test_the_plan_in_the_bundle_gives_the_same_artifact_again(packed: Pack, folder: Path, tmp_path: Path) -> None:
    with open_bundle(packed.path) as bundle:
        entry = next(v for v in bundle.manifest.variants if v.target == "tflite" and v.compression.startswith("wire"))
    path = tmp_path / "plan.json"
    path.write_text(str(entry.recipe["plan"]))
    again = make(folder, tmp_path / "again.haversack", plan=path)
    found = next(v for v in again.variants if v.target == "tflite" and v.compression == entry.compression)
    assert found.sha256 == entry.file.sha256
    load(tmp_path / "again.haversack", verify=True)


def test_the_same_search_gives_the_same_bundle(packed: Pack, folder: Path, tmp_path: Path) -> None:
    again = make(folder, tmp_path / "again.haversack", max_drop=1.0)
    with open_bundle(packed.path) as first, open_bundle(again.path) as second:
        for one, other in zip(first.manifest.variants, second.manifest.variants, strict=True):
            assert one == other, one.id
        assert first.manifest == second.manifest


def test_an_edited_plan_is_followed(packed: Pack, folder: Path, tmp_path: Path) -> None:
    with open_bundle(packed.path) as bundle:
        entry = next(v for v in bundle.manifest.variants if v.compression.startswith("wire"))
    whole = json.loads(str(entry.recipe["plan"]))
    whole["name"] = "mine"
    whole["layers"][next(iter(whole["layers"]))] = {"weights": "float32"}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(whole))
    again = make(folder, tmp_path / "again.haversack", plan=path)
    mine = next(v for v in again.variants if v.target == "tflite" and v.compression == "mine")
    assert any("float" in note for note in mine.notes) or mine.bytes != entry.file.bytes


def test_a_plan_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(Plan("other", model="0" * 64).to_json())
    with pytest.raises(UsageError, match="made for another model"):
        make(folder, tmp_path / "again.haversack", plan=path)


def test_what_cannot_be_met_says_what_would_be_enough(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "none.haversack"
    found = make(folder, path, max_drop=1.0, max_size=2000)
    assert found.over
    assert not path.exists()
    needed = [text for text in found.relaxing if "--max-size" in text]
    assert len(needed) == 3
    for text in needed:
        assert int(text.split("--max-size ")[1].split(" ")[0].replace(",", "")) > 2000


def test_without_the_extra_named_recipes_are_made_and_the_extra_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from haversack.convert import packing

    monkeypatch.setattr(packing, "missing_packages", lambda: ("scipy",))
    found = make(folder, tmp_path / "plain.haversack", max_drop=1.0)
    assert {v.compression for v in found.variants} == {"fp32", "fp16", "int8"}
    assert any("haversack[search]" in text for text in found.advice)


def test_a_plan_in_the_bundle_says_what_its_layers_are_called_in_training(packed: Pack, folder: Path) -> None:
    found = plans(packed.path)
    assert {name for plan in found.plans for name in plan.variants} >= {
        f"{target}-{name}" for target, name in packed.best.items() if name not in ("fp32", "fp16", "int8")
    }
    wire = next(plan for plan in found.plans if plan.name.startswith("wire"))
    work = Work.begin(folder / "digits.onnx")
    assert [layer.layer for layer in wire.layers] == list(planned_layers(work.sized))
    assert all(layer.trained and layer.weights for layer in wire.layers)
    assert wire.layers[0].trained in plans(packed.path, variant=wire.name, framework="torch").text


@pytest.mark.parametrize("objective", ["wire", None])
def test_a_large_model_is_weighed_where_the_wire_is_the_objective(objective: str | None, tmp_path: Path) -> None:
    weights = np.tile(np.float32([0.5, -0.25]), (600, 1000))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 600])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2000])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10),
        tmp_path / "large.onnx",
    )
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(0).normal(size=(4, 600)).astype(np.float32))
    made = pack(
        tmp_path / "large.onnx",
        to=["onnx"],
        recipes=["fp32"],
        evaluation=samples,
        objective=objective,
        output=tmp_path / "large.haversack",
    )
    (variant,) = made.variants
    assert variant.bytes > 4 << 20
    assert (variant.brotli_bytes is not None) == (objective == "wire")
    assert made.best == {"onnx": "fp32"}
