"""Reading Keras models: `.keras` archives and the older `.h5`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import onnx_ir as ir

from haversack.convert.errors import SourceError
from haversack.convert.sources.tensorflow import first_line, from_function, tensorflow
from haversack.convert.sources.tensorflow_names import plain, unique


def read_keras(path: Path) -> ir.Model:
    """Read a `.keras` archive, in Keras' safe mode (no Lambda layers: they are code).

    Raises:
        SourceError: TensorFlow is absent, Keras rejects the file, or a layer has no ONNX counterpart.
    """
    with tensorflow(path.name) as tf:
        return _convert(tf, open_keras(tf, path), path)


def read_h5(path: Path) -> ir.Model:
    """Read an `.h5` of Keras 1 to 3.

    Raises:
        SourceError: As `read_keras`; or the file holds weights alone, or a Lambda layer (in this format Keras would
            run its code).
    """
    with tensorflow(path.name) as tf:
        _check_h5(path)
        return _convert(tf, open_keras(tf, path), path)


def _check_h5(path: Path) -> None:
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
    except OSError as error:
        raise SourceError(f"{path.name} is a damaged HDF5 file: {first_line(error)}; export it again") from None
    if config is None:
        raise SourceError(f"{path.name} holds weights without a model; save it with model.save()")
    try:
        layers = list(_class_names(json.loads(config)))
    except ValueError:
        raise SourceError(f"{path.name} is damaged: its model description is no JSON; export it again") from None
    if "Lambda" in layers:
        raise SourceError(f"{path.name} holds a Lambda layer, which is code to run; replace it by layers of Keras")


def _class_names(config: object) -> Any:
    if isinstance(config, dict):
        if "class_name" in config:
            yield config["class_name"]
        for value in config.values():
            yield from _class_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _class_names(value)


def open_keras(tf: Any, path: Path) -> Any:
    """Load a Keras model of any version.

    Raises:
        SourceError: Keras rejects the file.
    """

    class DepthwiseConv2D(tf.keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        """Keras 2 wrote `groups`, always 1, into the configuration; Keras 3 refuses to read it."""

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            config.pop("groups", None)
            return super().from_config(config)

    try:
        return tf.keras.models.load_model(
            path, custom_objects={"DepthwiseConv2D": DepthwiseConv2D}, compile=False, safe_mode=True
        )
    except Exception as error:
        raise SourceError(f"{path.name} cannot be read by Keras: {first_line(error)}") from None


def _convert(tf: Any, model: Any, path: Path) -> ir.Model:
    if not getattr(model, "inputs", None):
        raise SourceError(f"{path.name} has no known inputs; build the model, or save it as a SavedModel")
    input_names = unique([plain(str(tensor.name)) for tensor in model.inputs])
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{index}_of_model")
        for index, tensor in enumerate(model.inputs)
    ]
    structure = model._inputs_struct if hasattr(model, "_inputs_struct") else None
    _name_scopes(tf, model, "")

    def call(*tensors: Any) -> list[Any]:
        # A model built on a dictionary or a nest of inputs is called with just that.
        inputs = tf.nest.pack_sequence_as(structure, tensors) if structure is not None else list(tensors)
        if isinstance(inputs, list | tuple) and len(inputs) == 1:
            inputs = inputs[0]
        return list(tf.nest.flatten(model(inputs, training=False)))

    try:
        function = tf.function(call, input_signature=specs).get_concrete_function()
    except Exception as error:
        raise SourceError(f"{path.name} cannot be traced: {first_line(error)}") from None
    return from_function(model, function, input_names, unique(_output_names(model)), path.name)


def _name_scopes(tf: Any, model: Any, prefix: str) -> None:
    """Let each layer's operators be named after the layer.

    Keras 3 enters every layer's name scope twice, so that TensorFlow takes the name as used and gives `conv2d` the
    scope `conv2d_1`, which is another layer. A scope that ends with a slash is taken as it stands.
    """
    for layer in getattr(model, "layers", ()):
        path = f"{prefix}{layer.name}/"
        if getattr(layer, "layers", None):
            _name_scopes(tf, layer, path)
        else:
            layer.call = _in_scope(tf, path, layer.call)


def _in_scope(tf: Any, path: str, call: Any) -> Any:
    @functools.wraps(call)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with tf.name_scope(path):
            return call(*args, **kwargs)

    return scoped


def _output_names(model: Any) -> list[str]:
    names = getattr(model, "output_names", None)
    return [plain(str(name)) for name in names] if names else [plain(str(t.name)) for t in model.outputs]
