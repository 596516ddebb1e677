"""Trains the quickstart's model: a small CNN on scikit-learn's handwritten digits (8 × 8 pixels, 0 to 16).

    python demo/haversack/demo/digits/train.py

writes `digits.onnx`, `calibration.npz` (100 training images) and `evaluation.npz` (the 540 held-out test images with
their labels) next to this file. It needs the extras `tensorflow` and `dev`; the quickstart itself needs neither, since
all three files are in the repository. The data set is Alpaydin and Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, as scikit-learn ships it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np
import onnx_ir as ir
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from haversack.convert.sources import read

SEED = 7
EPOCHS = 60
HERE = Path(__file__).parent


def build() -> keras.Model:
    """A convolutional network of 5,202 weights: [n, 8, 8, 1] grey levels in, [n, 10] probabilities out."""
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Rescaling(1 / 16, name="rescale")(image)
    for index, (filters, strides) in enumerate([(16, 1), (24, 2)]):
        x = keras.layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False, name=f"conv{index + 1}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{index + 1}")(x)
        x = keras.layers.ReLU(name=f"relu{index + 1}")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = keras.layers.BatchNormalization(name="norm3")(x)
    x = keras.layers.ReLU(6.0, name="relu3")(x)
    x = keras.layers.Conv2D(32, 1, name="pointwise")(x)
    x = keras.layers.ReLU(name="relu4")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax", name="probabilities")(x))


def main() -> None:
    """Train, export and report the accuracy on the held-out test images."""
    keras.utils.set_random_seed(SEED)
    digits = load_digits()
    images = digits.images.astype(np.float32)[..., None]
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.3, random_state=SEED, stratify=labels
    )
    model = build()
    model.compile(keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 3e-3 * 0.5 ** (epoch // 15))
    model.fit(train_x, train_y, batch_size=32, epochs=EPOCHS, verbose=0, callbacks=[schedule])
    _, accuracy = model.evaluate(test_x, test_y, verbose=0)
    print(f"{model.count_params():,} weights, {100 * accuracy:.2f} % of {len(test_y)} test images")

    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "digits.keras"
        model.save(saved)
        ir.save(read(saved).model, HERE / "digits.onnx")
    np.savez_compressed(HERE / "calibration.npz", image=train_x[:100])
    np.savez_compressed(HERE / "evaluation.npz", image=test_x, label=test_y)


if __name__ == "__main__":
    main()
