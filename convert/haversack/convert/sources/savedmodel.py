"""Reading TensorFlow SavedModel folders."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from haversack.convert.errors import SourceError
from haversack.convert.sources.tensorflow import first_line, from_function, tensorflow

SIGNATURE = "serving_default"


def read_savedmodel(path: Path) -> ir.Model:
    """Read the signature `serving_default` of a SavedModel, or its only one.

    Inputs and outputs have the signature's names; a signature has no order, so they are sorted by name.

    Raises:
        SourceError: TensorFlow is absent, it rejects the folder, or the graph has no ONNX counterpart.
    """
    with tensorflow(path.name) as tf:
        loaded, function = open_signature(tf, path)
        # A signature takes keywords and gives a dictionary; TensorFlow flattens both in the order of their keys.
        inputs = sorted(function.structured_input_signature[1])
        outputs = sorted(function.structured_outputs)
        return from_function(loaded, function, inputs, outputs, path.name)


def open_signature(tf: Any, path: Path) -> tuple[Any, Any]:
    """Load a SavedModel and find its signature.

    Returns:
        The loaded object, which must live as long as the signature is used, and the signature.

    Raises:
        SourceError: TensorFlow rejects the folder, or it has no signature to take.
    """
    try:
        loaded = _load(tf, path.resolve())
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{path.name} cannot be read by TensorFlow: {first_line(error)}") from None
    return loaded, _signature(loaded, path)


def _load(tf: Any, path: Path) -> Any:
    """Load from a copy without the optimizer's slot variables.

    An optimizer of Keras 2 comes back as a plain object that has no `add_slot`, so that TensorFlow 2.16 and later
    fail on every model saved after training. The slots hold the training's momenta, which no signature reads.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception:  # google.protobuf's DecodeError, whose module is an implementation detail
        raise SourceError(f"{path.name}: saved_model.pb is damaged; export the model again") from None
    if not any(node.slot_variables for graph in saved.meta_graphs for node in graph.object_graph_def.nodes):
        return tf.saved_model.load(str(path))
    for graph in saved.meta_graphs:
        for node in graph.object_graph_def.nodes:
            node.ClearField("slot_variables")
    with tempfile.TemporaryDirectory() as copy:
        Path(copy, "saved_model.pb").write_bytes(saved.SerializeToString())
        for part in ("variables", "assets"):
            if (path / part).is_dir():
                Path(copy, part).symlink_to(path / part)
        return tf.saved_model.load(copy)


def _signature(loaded: Any, path: Path) -> Any:
    signatures = dict(loaded.signatures)
    name = SIGNATURE if SIGNATURE in signatures or len(signatures) != 1 else next(iter(signatures))
    if name not in signatures:
        known = ", ".join(sorted(signatures)) or "none"
        raise SourceError(f"{path.name} has no signature {SIGNATURE!r} (it has: {known}); export it with one")
    return signatures[name]
