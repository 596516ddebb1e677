"""Trying an input: in a worker, in the model's own terms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from haversack.demo import edges, plain, trial
from haversack.runtimes import load, open_bundle
from haversack.runtimes.manifest import File, Manifest, Provenance, Tensor, Variant


def _variant(tensor: Tensor) -> Variant:
    return Variant("v", "tflite", "int8", File("artifacts/m.tflite", 1, "0"), (tensor,), (tensor,))


def _manifest(tensor: Tensor) -> Manifest:
    return Manifest("m", (tensor,), (tensor,), (_variant(tensor),), Provenance("m.onnx", "onnx", "0"))


def test_channels_last_int8_edges_and_back() -> None:
    """A variant of channels-last int8 gets its own form, and its results come back in the model's."""
    manifest = _manifest(Tensor("x", "float32", ("n", 3, 4, 5)))
    variant = _variant(Tensor("x", "int8", (1, 4, 5, 3), scale=0.5, zero_point=-3))
    value = np.random.default_rng(0).uniform(-20, 20, (1, 3, 4, 5)).astype(np.float32)
    own = edges.enter({"x": value}, manifest, variant)["x"]
    assert own.dtype == np.int8
    assert own.shape == (1, 4, 5, 3)
    back = edges.leave({"x": own}, manifest, variant)["x"]
    np.testing.assert_allclose(back, value, atol=0.25)  # half a step of 0.5


def test_a_worker_gives_what_the_runtime_gives(bundle_path: Path) -> None:
    """Bit for bit, since the engine is the same."""
    with open_bundle(bundle_path) as bundle:
        feeds, _ = bundle.golden("onnx-fp32")[0]
    found = trial.run_variants(bundle_path, ["onnx-fp32", "tflite-int8"], feeds)
    for variant, outcome in found.items():
        with load(bundle_path, variant=variant) as model:
            np.testing.assert_array_equal(outcome.outputs["probabilities"], model(feeds)["probabilities"])


def test_an_error_of_one_variant_is_its_own(bundle_path: Path) -> None:
    """An unknown variant and inputs of a wrong shape have a line each; the others have outputs."""
    with open_bundle(bundle_path) as bundle:
        feeds, _ = bundle.golden("onnx-fp32")[0]
    found = trial.run_variants(bundle_path, ["none", "onnx-fp32"], feeds)
    assert "none" in found["none"].error
    assert found["onnx-fp32"].outputs
    wrong = trial.run_variants(bundle_path, ["onnx-fp32"], {"image": np.zeros((1, 7, 8, 1), np.float32)})
    assert "expected float32" in wrong["onnx-fp32"].error


def test_a_variant_that_kills_the_worker_costs_the_others_nothing(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The parent names the signal, and goes on with the next variant in a fresh worker."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'haversack.demo.trial_worker' in sys.orig_argv:\n"
        "    import haversack.runtimes as runtimes\n"
        "    real = runtimes.load\n"
        "    def load(path, variant, **options):\n"
        "        if variant == 'onnx-fp32':\n"
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        return real(path, variant=variant, **options)\n"
        "    runtimes.load = load\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with open_bundle(bundle_path) as bundle:
        feeds, _ = bundle.golden("onnx-fp32")[0]
    found = trial.run_variants(bundle_path, ["tflite-fp32", "onnx-fp32", "tflite-int8"], feeds)
    assert "SIGSEGV" in found["onnx-fp32"].error
    assert found["tflite-fp32"].outputs
    assert found["tflite-int8"].outputs


def test_markdown_is_escaped() -> None:
    """Nothing that Markdown reads as markup stays bare."""
    assert plain.markdown("a ![x](http://h/) $y$ :z: <b>\nc") == (r"a \!\[x\]\(http\:\/\/h\/\) \$y\$ \:z\: \<b\> c")
