"""Training by the exported module in Keras: what it rounds, that it learns, that conversion keeps what is left."""

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
    "stem/kernel": LayerPlan("int8", 4.5, "per-tensor"),
    "dw0/kernel": LayerPlan("int8", 5.0, "per-tensor"),
    "dw/kernel": LayerPlan("int8", 3.0, "per-channel"),
    "sep/depthwise_kernel": LayerPlan("int8", 8.0, "per-channel"),
    "sep/pointwise_kernel": LayerPlan("int8", 4.5, "per-channel"),
    "inner/inner_conv/kernel": LayerPlan("int8", 2.5, "per-tensor"),
    "up/kernel": LayerPlan("int4", granularity="per-channel"),
    "hidden/kernel": LayerPlan("float16"),
    "fc/kernel": LayerPlan("int8", 8.0, "per-channel"),
}

CHANNELS = {"dw0/kernel": (2, 3), "dw/kernel": (2, 3), "sep/depthwise_kernel": (2, 3), "up/kernel": (2,)}


@dataclasses.dataclass
class Trained:
    folder: Path
    plan: Plan
    nodes: dict[str, str]
    said: dict[str, np.ndarray]


def kernel_of(name: str) -> str:
    """The kernel that a name in the exported table is about."""
    if name.startswith("bn0/"):  # all that is left of the name of the depthwise convolution before it
        return "dw0/kernel"
    if name.startswith("sep/"):
        return "sep/depthwise_kernel" if "depthwise" in name else "sep/pointwise_kernel"
    return next(kernel for kernel in HELD if name.startswith(kernel.removesuffix("kernel")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A network that was saved, planned, trained with the plan and saved again."""
    needs("tensorflow")
    folder = tmp_path_factory.mktemp("keras")
    program("in_keras.py", "build", folder)
    work = Work.begin(folder / "model.keras")
    layers = trained_layers(work.sized, work.path, "keras")
    nodes = {kernel_of(each.name): node for node, each in layers.items()}
    assert nodes.keys() == HELD.keys()
    plan = Plan("mixed", work.source.sha256, layers={node: HELD[kernel] for kernel, node in nodes.items()})
    (folder / "plan.json").write_text(plan.to_json())
    (folder / "qat.py").write_text(plans(folder / "plan.json", framework="keras", model=folder / "model.keras").text)
    program("in_keras.py", "train", folder)
    return Trained(folder, plan, nodes, dict(read(folder / "said.npz")))


def channels(kernel: str) -> tuple[int, ...]:
    return CHANNELS.get(kernel, (1,) if kernel in ("hidden/kernel", "fc/kernel") else (3,))


def factor(trained: Trained, kernel: str, when: str) -> np.ndarray:
    """What folding the batch normalization multiplies a kernel by."""
    found = trained.said.get(f"factor {when}/{kernel}")
    if found is None:
        return np.ones(())
    return found.astype(np.float64)[:, None] if kernel == "dw0/kernel" else found.astype(np.float64)


def test_weights_are_rounded_as_numpy_rounds_them(trained: Trained) -> None:
    rounded = {key.removeprefix("rounded/") for key in trained.said if key.startswith("rounded/")}
    assert rounded == {kernel for kernel, layer in HELD.items() if layer.integer}
    for kernel in rounded:
        times = factor(trained, kernel, "before")
        wanted = fake(trained.said[f"before/{kernel}"] * times, HELD[kernel], channels(kernel)) / times
        np.testing.assert_allclose(trained.said[f"rounded/{kernel}"], wanted, rtol=1e-5, atol=1e-7, err_msg=kernel)


def test_a_layer_computes_with_its_rounded_kernel(trained: Trained) -> None:
    said = trained.said
    kernel = fake(said["before/fc/kernel"], HELD["fc/kernel"], (1,))
    np.testing.assert_allclose(said["fc out"], said["fc in"] @ kernel + said["fc bias"], rtol=1e-4, atol=1e-5)


def test_activations_are_rounded_over_the_range_that_training_saw(trained: Trained) -> None:
    low, high = map(float, trained.said["range"])
    assert high > low
    np.testing.assert_array_equal(trained.said["range"], trained.said["range after use"])
    wanted = fake_input(trained.said["values"], low, high)
    np.testing.assert_allclose(trained.said["activations"], wanted, rtol=1e-5, atol=1e-6)


def test_it_learns_and_every_weight_moves(trained: Trained) -> None:
    losses = trained.said["losses"]
    assert losses[-1] < 0.8 * losses[0]
    assert trained.said["unmoved"].size == 0
    assert trained.said["no gradient"].size == 0


def test_finished_weights_lie_on_the_grid_and_floats_are_floats(trained: Trained) -> None:
    for kernel, layer in HELD.items():
        after = trained.said[f"after/{kernel}"]
        rows = np.moveaxis(after, channels(kernel), range(len(channels(kernel))))
        rows = rows.reshape(np.prod(rows.shape[: len(channels(kernel))]), -1)
        if layer.integer:
            assert distinct(rows) <= 2 * limit_of(layer) + 1, kernel
        else:
            assert distinct(rows.reshape(1, -1)) > 100


def as_hub(kernel: str, array: np.ndarray) -> np.ndarray:
    """A kernel's integers in the hub's order of axes."""
    if kernel in ("dw0/kernel", "dw/kernel", "sep/depthwise_kernel"):
        return array.reshape(*array.shape[:2], 1, -1).transpose(3, 2, 0, 1)
    if array.ndim == 2:
        return array.T
    return array.transpose(3, 2, 0, 1)


def test_conversion_with_the_plan_keeps_the_integers(trained: Trained) -> None:
    plan = Plan.from_json(plans(trained.folder / "plan.json", retrained=True).text)
    inputs = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    made = converted(trained.folder / "trained.keras", plan, inputs)
    for kernel, layer in HELD.items():
        found = made.get(trained.nodes[kernel])
        if not layer.integer:
            assert found is None, kernel
            continue
        assert found is not None, kernel
        wanted = integers(trained.said[f"after/{kernel}"] * factor(trained, kernel, "after"), layer, channels(kernel))
        np.testing.assert_array_equal(found, as_hub(kernel, wanted), err_msg=kernel)
