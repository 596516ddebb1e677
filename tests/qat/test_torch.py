"""Training by the exported module in PyTorch: what it rounds, that it learns, that conversion keeps what is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.plans import plans
from haversack.convert.qat.names import trained_layers
from haversack.convert.work import Work

from .conftest import converted, distinct, needs, program, read
from .numpy_rounding import fake, fake_input, integers, limit_of

pytestmark = pytest.mark.slow

HELD = {
    "stem.weight": LayerPlan("int8", 4.5, "per-tensor"),
    "layer1.0.conv1.weight": LayerPlan("int8", 3.0, "per-tensor"),
    "layer1.0.dw.weight": LayerPlan("int8", 8.0, "per-channel"),
    "layer1.1.conv1.weight": LayerPlan("int8", 4.5, "per-channel"),
    "layer1.1.dw.weight": LayerPlan("float16"),
    "up.weight": LayerPlan("int4", granularity="per-channel"),
    "tok.weight": LayerPlan("int8", 2.5, "per-tensor"),
    "fc.weight": LayerPlan("int8", 8.0, "per-tensor"),
}


@dataclasses.dataclass
class Trained:
    folder: Path
    plan: Plan
    nodes: dict[str, str]
    said: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["dynamo", "script"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A network that was exported, planned, trained with the plan and exported again."""
    needs("torch")
    needs("onnxscript")
    folder = tmp_path_factory.mktemp("torch")
    program("in_torch.py", "build", folder, request.param)
    work = Work.begin(folder / "model.onnx")
    layers = trained_layers(work.sized, work.path, "onnx")
    assert sorted(each.name for each in layers.values()) == sorted(HELD)
    plan = Plan("mixed", work.source.sha256, layers={node: HELD[each.name] for node, each in layers.items()})
    (folder / "plan.json").write_text(plan.to_json())
    made = plans(folder / "plan.json", framework="torch", model=folder / "model.onnx")
    (folder / "qat.py").write_text(made.text)
    program("in_torch.py", "train", folder, request.param)
    return Trained(folder, plan, {each.name: node for node, each in layers.items()}, dict(read(folder / "said.npz")))


def channels(name: str) -> tuple[int, ...]:
    return (1,) if name == "up.weight" else (0,)


def factor(trained: Trained, name: str, when: str) -> np.ndarray:
    """What the exporter's fold of a batch normalization multiplies a layer's weights by."""
    found = trained.said.get(f"factor {when}/{name}")
    return np.ones(()) if found is None else found.astype(np.float64).reshape(-1, 1, 1, 1)


def test_weights_are_rounded_as_numpy_rounds_them(trained: Trained) -> None:
    rounded = {key.removeprefix("rounded/") for key in trained.said if key.startswith("rounded/")}
    assert rounded == {name for name, layer in HELD.items() if layer.integer}
    for name in rounded:
        times = factor(trained, name, "before")
        wanted = fake(trained.said[f"before/{name}"] * times, HELD[name], channels(name)) / times
        np.testing.assert_allclose(trained.said[f"rounded/{name}"], wanted, rtol=1e-5, atol=1e-7, err_msg=name)


def test_activations_are_rounded_over_the_range_that_training_saw(trained: Trained) -> None:
    assert trained.said["unseen"]
    low, high = map(float, trained.said["range"])
    assert high > low
    wanted = fake_input(trained.said["values"], low, high)
    np.testing.assert_allclose(trained.said["activations"], wanted, rtol=1e-5, atol=1e-6)


def test_it_learns_and_every_weight_moves(trained: Trained) -> None:
    losses = trained.said["losses"]
    assert losses[-1] < 0.8 * losses[0]
    assert trained.said["unmoved"].size == 0


def test_finished_weights_lie_on_the_grid_and_floats_are_floats(trained: Trained) -> None:
    for name, layer in HELD.items():
        rows = np.moveaxis(trained.said[f"after/{name}"], channels(name)[0], 0)
        rows = rows.reshape(len(rows), -1)
        if layer.integer:
            assert distinct(rows) <= 2 * limit_of(layer) + 1, name
        else:
            assert distinct(rows.reshape(1, -1)) > 100


def test_conversion_with_the_plan_keeps_the_integers(trained: Trained) -> None:
    plan = Plan.from_json(plans(trained.folder / "plan.json", retrained=True).text)
    assert (plan.model, plan.methods, plan.layers) == ("", (), trained.plan.layers)
    inputs = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    made = converted(trained.folder / "trained.onnx", plan, inputs)
    for name, layer in HELD.items():
        found = made.get(trained.nodes[name])
        if not layer.integer:
            assert found is None, name
            continue
        assert found is not None, name
        times = factor(trained, name, "after")
        assert np.all(np.abs(times - 1) > 1e-3) or times.ndim == 0  # there is something to fold
        wanted = integers(trained.said[f"after/{name}"] * times, layer, channels(name))
        np.testing.assert_array_equal(found, wanted if found.shape == wanted.shape else wanted.T, err_msg=name)
