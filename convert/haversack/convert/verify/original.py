"""The source file executed by its own runtime, which knows nothing of Haversack's reading of it.

| format              | executed by                                                        |
|---------------------|--------------------------------------------------------------------|
| onnx                | onnxruntime, optimisations off                                     |
| tflite              | LiteRT, builtin kernels without delegates                          |
| keras, h5, savedmodel | TensorFlow, which reading the file needed anyway                 |
| skops               | scikit-learn                                                       |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from haversack.convert.hub import IR_VERSION
from haversack.convert.sources.classifiers import Restated
from haversack.convert.verify.execute import Run
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import EngineError


def open_original(
    path: Path,
    format: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    *,
    large: bool = False,
    restated: Mapping[str, Restated] | None = None,
) -> tuple[Run, str]:
    """Open the source file.

    Args:
        path: The file or folder.
        format: As `sources.read` found it.
        inputs: The model's input names, in order.
        outputs: The model's output names, in order.
        large: Its weights should not be held a second time, packed for speed.
        restated: Outputs that the file has otherwise than the model.

    Returns:
        A function from one sample to the outputs under the model's names, and what runs it.

    Raises:
        EngineError: The runtime rejects the file.
    """
    if format == "skops":
        from haversack.convert.verify.original_estimator import open_skops

        return open_skops(path, inputs, outputs, restated or {})
    if format == "onnx" and restated:
        from haversack.convert.verify.original_classifier import open_classifier

        return open_classifier(path, outputs, restated)
    if format == "onnx":
        from haversack.runtimes.engines.onnxruntime import open_artifact as open_onnx

        try:
            session = open_onnx(path, optimize=False, prepack=not large)
        except EngineError:
            # A file written by a newer onnx than onnxruntime knows is often refused for its version number alone.
            session = open_onnx(_older(path), optimize=False, prepack=not large, data=path.resolve().parent)
        return session.run, f"onnxruntime {session.version}"
    if format == "tflite":
        from haversack.runtimes.engines.litert import open_artifact as open_tflite

        interpreter = open_tflite(path, xnnpack=False)
        names = [spec.name for spec in interpreter.inputs]
        results = [spec.name for spec in interpreter.outputs]

        def run_tflite(sample: Mapping[str, Array]) -> dict[str, Array]:
            given = interpreter.run({name: sample[key] for name, key in _pairs(names, inputs)})
            return {key: given[name] for name, key in _pairs(results, outputs)}

        return run_tflite, f"litert {interpreter.version}"
    return _open_tensorflow(path, format, inputs, outputs)


def rounds(path: Path, format: str) -> bool:
    """Whether the source's own kernels compute on integers, and so round where its float meaning does not.

    That is so of a `.tflite` with 8- or 16-bit tensors: weights alone make LiteRT quantize activations as it goes.
    """
    if format != "tflite":
        return False
    from haversack.runtimes.engines.litert import open_artifact

    details = open_artifact(path, xnnpack=False)._interpreter.get_tensor_details()
    return any(np.dtype(row["dtype"]).name in ("int8", "uint8", "int16") for row in details)


def _older(path: Path) -> bytes:
    """An ONNX file with the IR version that the hub has, its weights left where they lie."""
    import onnx

    from haversack.convert.sources.onnx import read_graph

    model = onnx.ModelProto.FromString(read_graph(path))
    model.ir_version = min(model.ir_version, IR_VERSION)
    return bytes(model.SerializeToString())


def _pairs(theirs: list[str], ours: tuple[str, ...]) -> list[tuple[str, str]]:
    """Their names beside ours: by name where all agree, else by position."""
    if set(theirs) == set(ours):
        return [(name, name) for name in theirs]
    return list(zip(theirs, ours, strict=True))


def _open_tensorflow(path: Path, format: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[Run, str]:
    from haversack.convert.sources.tensorflow import tensorflow

    with tensorflow(path.name) as tf:
        if format == "savedmodel":
            from haversack.convert.sources.savedmodel import open_signature

            owner, signature = open_signature(tf, path)

            def run_signature(sample: Mapping[str, Array]) -> dict[str, Array]:
                assert owner is not None  # It holds the variables, which a signature alone does not keep.
                results = signature(**{name: tf.constant(sample[name]) for name in inputs})
                return {name: results[name].numpy() for name in outputs}

            return run_signature, f"tensorflow {tf.__version__}"
        from haversack.convert.sources.keras import open_keras

        model = open_keras(tf, path)
        # Traced once: an eager call costs a hundred times as much.
        call = tf.function(lambda *tensors: tf.nest.flatten(model(_nested(tf, model, tensors), training=False)))

        def run_model(sample: Mapping[str, Array]) -> dict[str, Array]:
            results = call(*[tf.constant(sample[name]) for name in inputs])
            return {name: np.asarray(value) for name, value in zip(outputs, results, strict=True)}

        return run_model, f"tensorflow {tf.__version__}"


def _nested(tf: Any, model: Any, tensors: tuple[Any, ...]) -> Any:
    """The tensors as the model is called with them: one, a list, or the nest that it was built on."""
    structure = getattr(model, "_inputs_struct", None)
    nest = tf.nest.pack_sequence_as(structure, tensors) if structure is not None else list(tensors)
    return nest[0] if isinstance(nest, list | tuple) and len(nest) == 1 else nest
