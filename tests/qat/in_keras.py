"""A user's program: build a network, and later train it with the exported module `qat.py`.

python in_keras.py build|train FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

KERNELS = [
    *("stem/kernel", "dw0/kernel", "dw/kernel", "sep/depthwise_kernel", "sep/pointwise_kernel"),
    *("inner/inner_conv/kernel", "up/kernel", "hidden/kernel", "fc/kernel"),
]


def build(folder: Path) -> None:
    inner = keras.Sequential(
        [layers.Input((4, 4, 16)), layers.Conv2D(16, 3, padding="same", name="inner_conv"), layers.ReLU()], name="inner"
    )
    x = given = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw0")(x)
    x = layers.BatchNormalization(name="bn0")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="dw")(x)
    x = layers.SeparableConv2D(16, 3, padding="same", name="sep")(x)
    x = inner(x)
    x = layers.Conv2DTranspose(16, 2, strides=2, name="up")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    x = layers.Dense(10, name="fc")(x)
    model = keras.Model(given, x)
    random = np.random.default_rng(0)
    for each in model.weights:
        if each.name == "bias":  # a trained model has some; what is zero is left out of a graph
            each.assign(random.normal(size=each.shape) / 10)
    for norm in (model.get_layer("bn"), model.get_layer("bn0")):
        norm.gamma.assign(random.uniform(-1.5, 1.5, 16))
        norm.moving_mean.assign(random.uniform(-0.2, 0.2, 16))
        norm.moving_variance.assign(random.uniform(0.3, 2.0, 16))
    model.save(folder / "model.keras")


def value(each: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(each))


def factors(model: keras.Model, when: str) -> dict[str, np.ndarray]:
    """What folding each batch normalization multiplies the kernel before it by."""
    norms = {"stem/kernel": model.get_layer("bn"), "dw0/kernel": model.get_layer("bn0")}
    return {
        f"factor {when}/{kernel}": value(norm.gamma) / np.sqrt(value(norm.moving_variance) + norm.epsilon)
        for kernel, norm in norms.items()
    }


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {path: value(each) for each in model.weights for path in KERNELS if path.endswith(each.path)}


def train(folder: Path) -> None:
    import qat

    model = keras.models.load_model(folder / "model.keras")
    random = np.random.default_rng(1)
    x = (random.normal(size=(64, 8, 8, 3)) + random.normal(size=(64, 1, 1, 3))).astype(np.float32)
    labels = (x.mean((1, 2)) @ random.normal(size=(3, 10))).argmax(1)
    said = {f"before/{path}": kernel for path, kernel in kernels(model).items()} | factors(model, "before")
    float_outputs = model(x)

    # What each layer computes from its kernel is seen in a layer alone: rounding is of the kernel, not of the sum.
    assert qat.prepare(model) is model
    for layer in model._flatten_layers():
        for weight in getattr(vars(layer).get("call"), "rounded", ()):
            said["rounded/" + next(path for path in KERNELS if path.endswith(weight.variable.path))] = value(
                weight.value()
            )
    fc = model.get_layer("fc")
    features = tf.constant(random.normal(size=(5, 16)).astype(np.float32))
    said["fc in"], said["fc out"], said["fc bias"] = features.numpy(), fc(features).numpy(), value(fc.bias)
    assert not np.allclose(model(x), float_outputs)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(x, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    said["no gradient"] = np.array(
        [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None or not np.any(g)]
    )

    start = kernels(model)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    history = model.fit(x, labels, batch_size=16, epochs=40, verbose=0)
    said["losses"] = np.array(history.history["loss"])
    said["unmoved"] = np.array([path for path, kernel in kernels(model).items() if np.array_equal(kernel, start[path])])
    values = np.linspace(-3, 3, 16 * 64, dtype=np.float32).reshape(64, 16)
    inputs = fc.call.inputs
    said["range"], said["values"] = value(inputs.range), values
    said["activations"] = value(inputs(values))
    said["range after use"] = value(inputs.range)

    predicted = model.predict(x, verbose=0)
    assert qat.finish(model) is model
    said |= {f"after/{path}": kernel for path, kernel in kernels(model).items()} | factors(model, "after")
    assert not np.allclose(model.predict(x, verbose=0), predicted, atol=1e-7)  # activations are floats again
    model.save(folder / "trained.keras")
    np.savez(folder / "said.npz", **said)

    other = keras.Sequential([layers.Input((16,)), layers.Dense(10, name="fc")])
    for wrong, call in (("not prepared", lambda: qat.finish(model)), ("no stem/", lambda: qat.prepare(other))):
        with pytest.raises(ValueError, match=wrong):
            call()


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    {"build": build, "train": train}[sys.argv[1]](Path(sys.argv[2]))
