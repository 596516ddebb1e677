"""Keras files beyond the MLPerf Tiny ones: the `.keras` archive, several inputs and outputs, names, unsafe layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.convert.errors import SourceError
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub
from haversack.convert.sources import read

tf = pytest.importorskip("tensorflow", reason="TensorFlow, which reads these formats, is not installed")

pytestmark = pytest.mark.slow


def _two_by_two() -> Any:
    tf.keras.utils.set_random_seed(0)
    image = tf.keras.Input((8, 8, 3), name="image")
    extra = tf.keras.Input((4,), name="extra")
    x = tf.keras.layers.SeparableConv2D(6, 3, padding="same", name="separable")(image)
    x = tf.keras.layers.BatchNormalization(name="norm")(x)
    x = tf.keras.layers.ReLU(6.0, name="relu6")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    y = tf.keras.layers.Dense(6, activation="tanh", name="mixed")(extra)
    total = tf.keras.layers.Add(name="total")([x, y])
    first = tf.keras.layers.Dense(2, name="zeta")(total)
    second = tf.keras.layers.Dense(3, activation="softmax", name="alpha")(total)
    return tf.keras.Model([image, extra], [first, second])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_names_order_and_values_are_the_users(tmp_path: Path, suffix: str) -> None:
    model = _two_by_two()
    path = tmp_path / f"model{suffix}"
    model.save(path)
    hub = read(path).model
    assert [value.name for value in hub.graph.inputs] == ["image", "extra"]
    assert [value.name for value in hub.graph.outputs] == ["zeta", "alpha"], "the model's order, not the alphabet's"
    assert [dim if isinstance(dim, int) else dim.value for dim in hub.graph.inputs[0].shape] == ["batch", 8, 8, 3]
    rng = np.random.default_rng(0)
    feeds = {
        "image": rng.normal(size=(3, 8, 8, 3)).astype(np.float32),
        "extra": rng.normal(size=(3, 4)).astype(np.float32),
    }
    expected = model([feeds["image"], feeds["extra"]], training=False)
    actual = Evaluator(hub).run(feeds)
    for name, wanted in zip(("zeta", "alpha"), expected, strict=True):
        # float32 in another order of summation
        np.testing.assert_allclose(actual[name], wanted, rtol=1e-5, atol=1e-6)
    clips = [node for node in hub.graph if node.op_type == "Clip"]
    assert [float(value.const_value.numpy()) for value in clips[0].inputs[1:]] == [0, 6]
    assert any(node.op_type == "Conv" and node.attributes["group"].as_int() == 3 for node in hub.graph)
    assert {"mixed/MatMul", "zeta/MatMul"} <= {node.name for node in hub.graph}


def test_grouped_convolution_and_exact_gelu_are_read(tmp_path: Path) -> None:
    """Keras compiles a grouped convolution by XLA, which TensorFlow keeps whole; GELU is said by erfc."""
    tf.keras.utils.set_random_seed(0)
    image = tf.keras.Input((6, 6, 4), name="image")
    x = tf.keras.layers.Conv2D(8, 3, groups=2, padding="same", name="grouped")(image)
    x = tf.keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = tf.keras.layers.Dense(12, name="dense")(x)
    model = tf.keras.Model(image, tf.keras.layers.Activation("gelu", name="gelu")(x))
    for layer in (model.get_layer("norm"), model.get_layer("dense")):
        layer.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in layer.get_weights()])
    model.save(tmp_path / "model.keras")
    source = read(tmp_path / "model.keras").model
    feeds = {"image": np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32)}
    (actual,) = Evaluator(source).run(feeds).values()
    # float32 in another order of summation; 1 - erf is off by a rounding of 1
    np.testing.assert_allclose(actual, model(feeds["image"], training=False), rtol=1e-5, atol=2e-6)
    found = [node.op_type for node in to_hub(source).graph if node.op_type not in ("Transpose", "Reshape")]
    assert found == ["Conv", "LayerNormalization", "Gemm", "Gelu"]


def test_a_savedmodel_is_known_by_its_signature(tmp_path: Path) -> None:
    model = _two_by_two()
    model.export(tmp_path / "saved", verbose=False)
    source = read(tmp_path / "saved")
    assert source.format == "savedmodel"
    assert [value.name for value in source.model.graph.inputs] == ["extra", "image"]
    assert len(source.model.graph.outputs) == 2
    assert source.sha256 == read(tmp_path / "saved").sha256
    (tmp_path / "saved" / "note.txt").write_text("more")
    assert source.sha256 != read(tmp_path / "saved").sha256


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_layers_are_not_run(tmp_path: Path, suffix: str) -> None:
    inputs = tf.keras.Input((4,))
    model = tf.keras.Model(inputs, tf.keras.layers.Lambda(lambda x: x * 2)(inputs))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    with pytest.raises(SourceError) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_weights_without_a_model(tmp_path: Path) -> None:
    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])
    model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(SourceError, match="weights without a model"):
        read(tmp_path / "only.weights.h5")


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "m.keras").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(100)))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\xff\xff\xff\xff")
    for name in ("m.h5", "m.keras", "m.tflite", "saved"):
        with pytest.raises(SourceError) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_tensorflow_keeps_quiet(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    _two_by_two().save(path)
    script = "import sys; from pathlib import Path; from haversack.convert.sources import read; read(Path(sys.argv[1]))"
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout == ""
    assert result.stderr == ""
