"""The tools that users chain today, called as their documentation says, on the same models and calibration data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def tflite_converter(
    model: Path, calibration: Iterable[Mapping[str, Array]] | None = None, *, per_channel: bool = True
) -> bytes:
    """TensorFlow's own converter: float32, or full-integer int8 inside with float32 at the edges.

    Args:
        model: A SavedModel folder or a `.h5`/`.keras` file that Keras 3 loads.
        calibration: Batches of one; given, the file is quantized.
        per_channel: One scale a channel (the tool's default), or one a tensor.
    """
    import tensorflow as tf

    if model.is_dir():
        _forgive_optimizer_slots()
        converter = tf.lite.TFLiteConverter.from_saved_model(str(model))
    else:
        converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(model, compile=False))
    if calibration is not None:
        samples = [[array.astype(np.float32) for array in feeds.values()] for feeds in calibration]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter(samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter._experimental_disable_per_channel = not per_channel
    written: bytes = converter.convert()
    return written


def strip_tflite(content: bytes) -> bytes:
    """The same file without the names of its tensors, and without metadata: the smallest that it can be sent as."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.description, model.metadata, model.metadataBuffer = None, None, None
    for graph in model.subgraphs:
        kept = {int(index) for index in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in kept:
                tensor.name = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def strip_onnx(content: bytes) -> bytes:
    """The same model with short names and without documentation and shapes of intermediate values."""
    import onnx

    from haversack.convert.targets.ort import shrink

    proto = onnx.ModelProto.FromString(content)
    shrink.shorten_names(proto)
    shrink.strip(proto)
    return proto.SerializeToString()


def onnxruntime_quantizer(model: Path, calibration: Iterable[Mapping[str, Array]]) -> bytes:
    """Onnxruntime's static quantizer: QDQ, per-channel int8 weights, uint8 activations (its best form on x86)."""
    from onnxruntime import quantization as ortq

    class Reader(ortq.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter([dict(feeds) for feeds in calibration])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        ortq.shape_inference.quant_pre_process(str(model), str(prepared))
        ortq.quantize_static(
            str(prepared),
            str(quantized),
            Reader(),
            quant_format=ortq.QuantFormat.QDQ,
            per_channel=True,
            activation_type=ortq.QuantType.QUInt8,
            weight_type=ortq.QuantType.QInt8,
        )
        return quantized.read_bytes()


def _forgive_optimizer_slots() -> None:
    """Let TensorFlow 2.21 load SavedModels that kept a Keras 2 optimizer's slots; inference never reads them."""
    import tensorflow as tf
    from tensorflow.python.trackable import autotrackable

    def add_slot(_: object, var: Any, **_options: object) -> Any:
        return tf.Variable(tf.zeros_like(var), trainable=False)

    autotrackable.AutoTrackable.add_slot = add_slot
