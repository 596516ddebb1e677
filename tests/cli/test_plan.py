"""`haversack plan`: what a bundle's plans are, as a table, a file and a module, and what cannot be meant."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Literal

import pytest

from haversack.convert.bundle import NewVariant, write_bundle
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.qat.export import module_of
from haversack.convert.qat.names import Trained
from haversack.runtimes.manifest import Provenance, Tensor

from .conftest import haversack

WIRE = Plan(
    "wire3.08",
    "0" * 64,
    methods=("second-order",),
    layers={"first": LayerPlan("int8", 3.5, "per-tensor"), "second": LayerPlan("float16")},
)
SIZE = Plan("size4.1", "0" * 64, layers={"first": LayerPlan("int4")})
LAYERS = json.dumps(
    {"first": {"name": "conv1.weight", "elements": 216}, "second": {"name": "conv2.weight", "elements": 1152}}
)


def bundle(folder: Path, *plans: tuple[str, Plan]) -> Path:
    edge = Tensor("x", "float32", (1, 2))
    entries = []
    for target, plan in plans:
        artifact = folder / f"{target}-{plan.name}.{target}"
        artifact.write_bytes(target.encode())
        recipe = {"plan": plan.to_json(), "layers": LAYERS} if plan.layers else {}
        entries.append(
            NewVariant(
                id=f"{target}-{plan.name}", target=target, compression=plan.name, artifact=artifact, inputs=(edge,),
                outputs=(edge,), recipe=recipe,
            )
        )  # fmt: skip
    path = folder / "m.haversack"
    write_bundle(path, name="m", inputs=[edge], outputs=[edge], variants=entries,
                 provenance=Provenance("m.onnx", "onnx", "0" * 64, {}))  # fmt: skip
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return bundle(tmp_path, ("tflite", Plan("fp32")), ("tflite", WIRE), ("onnx", WIRE), ("tflite", SIZE))


def test_plans_are_told_each_once_and_one_layer_by_layer(two: Path) -> None:
    done = haversack("plan", two)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "wire3.08  int8  second-order  1 × int8 at 3.5 bits, per-tensor; 1 × float16",
        "size4.1  int8  no methods  1 × int4, per-channel; 1 × int8, per-channel",
    ]
    one = haversack("plan", two, "--variant", "onnx-wire3.08")
    assert "variants  tflite-wire3.08, onnx-wire3.08" in one.out
    assert "first    int8 at 3.5 bits, per-tensor       216   conv1.weight" in one.out
    said = json.loads(haversack("plan", two, "--json").out)
    assert [plan["variants"] for plan in said["plans"]] == [["tflite-wire3.08", "onnx-wire3.08"], ["tflite-size4.1"]]
    assert said["plans"][0]["layers"][1] == {
        "layer": "second", "held": "float16", "trained": "conv2.weight", "weights": 1152
    }  # fmt: skip


def test_a_plan_is_written_as_it_is_and_read_again(two: Path) -> None:
    path = two.with_name("plan.json")
    assert haversack("plan", two, "--variant", "tflite-wire3.08", "-o", path).code == 0
    assert path.read_text() == WIRE.to_json()
    again = haversack("plan", path)
    assert again.code == 0
    assert "wire3.08  int8  second-order  1 × int8 at 3.5 bits, per-tensor; 1 × float16" in again.out
    assert haversack("plan", path, "-o", path).code == 2
    exists = haversack("plan", two, "--variant", "size4.1", "-o", path)
    assert exists.code == 2
    assert "--force" in exists.line
    assert path.read_text() == WIRE.to_json()
    done = haversack("plan", two, "--variant", "wire3.08", "--retrained")
    assert Plan.from_json(done.out) == Plan("wire3.08", layers=WIRE.layers)


def test_the_module_holds_the_layers_by_their_names_in_training(two: Path) -> None:
    path = two.with_name("qat.py")
    done = haversack("plan", two, "--variant", "tflite-wire3.08", "--for", "torch", "-o", path)
    assert (done.code, done.err) == (0, "")
    text = path.read_text()
    assert "'conv1.weight': Layer(216, 5, 5.15685425, False, 8),  # int8 at 3.5 bits, per-tensor" in text
    assert "# 'conv2.weight': float16, left as it is" in text
    assert "haversack.convert" not in text
    keras = haversack("plan", two, "--variant", "tflite-size4.1", "--for", "keras")
    assert "'conv1.weight': Layer(216, 7, 7, True, 8),  # int4, per-channel" in keras.out
    ast.parse(keras.out)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_names_from_a_file_are_never_code(framework: Literal["torch", "keras"]) -> None:
    evil = '"""\nimport os; os.abort()\n"""\n'
    plan = Plan(evil, layers={"a": LayerPlan("float16"), "b": LayerPlan()})
    text = module_of(plan, {"a": Trained(evil, 1), "b": Trained(evil, 2)}, framework)
    imports = [ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    assert "import os" not in imports
    named = {ast.unparse(node.targets[0]): node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(named["PLAN"]) == evil
    assert not any(isinstance(node, ast.Attribute) and node.attr == "abort" for node in ast.walk(ast.parse(text)))


def test_a_file_is_exported_with_the_model_that_it_is_for(model: Path) -> None:
    path = model.with_name("plan.json")
    path.write_text(Plan("mine", layers={"second": LayerPlan("int8", 4.0)}, default=LayerPlan("float32")).to_json())
    without = haversack("plan", path, "--for", "torch")
    assert without.code == 2
    assert "give --model MODEL too" in without.line
    done = haversack("plan", path, "--for", "torch", "--model", model)
    assert (done.code, done.err) == (0, "")
    assert "'w2': Layer(1152, 7, 7.5, True, 8)" in done.out
    assert "# 'w1': float32, left as it is" in done.out
    path.write_text(Plan("mine", "f" * 64).to_json())
    other = haversack("plan", path, "--for", "torch", "--model", model)
    assert other.code == 2
    assert "was made for another model" in other.line


def test_what_cannot_be_meant_is_one_line(two: Path, tmp_path: Path) -> None:
    several = haversack("plan", two, "-o", tmp_path / "plan.json")
    assert several.code == 2
    assert "holds 2 plans: name one with --variant (tflite-wire3.08, tflite-size4.1)" in several.line
    unknown = haversack("plan", two, "--variant", "tflite-int8")
    assert unknown.code == 2
    assert "no planned variant is called 'tflite-int8'" in unknown.line
    assert "--for 'jax' is none of torch, keras" in haversack("plan", two, "--for", "jax").line
    assert haversack("plan", two, "--for", "torch", "--retrained").code == 2
    assert not (tmp_path / "plan.json").exists()
    two.unlink()
    none = haversack("plan", bundle(tmp_path, ("tflite", Plan("fp32"))))
    assert none.code == 2
    assert "none of its variants follows a plan" in none.line
    (tmp_path / "plan.json").write_text("{}")
    assert "not a plan of version 1" in haversack("plan", tmp_path / "plan.json").line
