"""Reading TensorFlow graphs: the quiet import, freezing, and the way through tf2onnx."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import onnx_ir as ir

from haversack.convert.errors import SourceError
from haversack.convert.sources.tensorflow_names import shorten
from haversack.convert.sources.tensorflow_operators import HANDLERS, inlinable

TF2ONNX_OPSET = 18
"""The newest opset that tf2onnx writes; the hub brings it to its own."""


@contextmanager
def tensorflow(what: str) -> Iterator[Any]:
    """Import TensorFlow, without its log on stderr, for the time of one reading.

    Args:
        what: The file, for the message.

    Yields:
        The module `tensorflow`.

    Raises:
        SourceError: TensorFlow or tf2onnx is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet():
        try:
            # tf2onnx imports TensorFlow itself, so both are here or neither is of use.
            import tensorflow as tf
            import tf2onnx  # noqa: F401
        except ImportError:
            raise SourceError(f"{what} needs TensorFlow to be read: pip install 'haversack[tensorflow]'") from None
        # Reading takes no accelerator, and TensorFlow would reserve all of its memory.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(RuntimeError):  # where its caller uses TensorFlow already, the devices are that caller's
                tf.config.set_visible_devices([], "GPU")
            yield tf


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's C++ log, which ignores every Python setting until it is set up, away from stderr."""
    levels = {name: logging.getLogger(name).level for name in ("tensorflow", "tf2onnx", "absl", "h5py")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def from_function(owner: Any, function: Any, inputs: Sequence[str], outputs: Sequence[str], what: str) -> ir.Model:
    """Freeze a concrete function and read it.

    Args:
        owner: What owns the function's variables. It must be alive while they are frozen: a function alone does not
            keep them, and freezing then gives a model without weights.
        function: A concrete function.
        inputs: The user's name of each of its inputs, in order.
        outputs: Likewise of its outputs.
        what: The file, for messages.

    Raises:
        SourceError: The names do not fit the function, or tf2onnx cannot say the graph in ONNX.
    """
    import tf2onnx.convert
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if not owner:
        raise ValueError("the owner of the variables is gone")
    try:
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
        tensors = [tensor.name for tensor in (*frozen.inputs, *frozen.outputs)]
        names = dict(zip(tensors, (*inputs, *outputs), strict=True))
        proto, _ = tf2onnx.convert.from_graph_def(
            inlinable(frozen.graph.as_graph_def()),
            input_names=tensors[: len(inputs)],
            output_names=tensors[len(inputs) :],
            opset=TF2ONNX_OPSET,
            tensors_to_rename=names,
            custom_op_handlers=dict(HANDLERS),
        )
    except Exception as error:
        raise SourceError(f"{what}: TensorFlow's graph cannot be said in ONNX: {first_line(error)}") from None
    return tidy(proto, inputs, outputs, what)


def tidy(proto: Any, inputs: Sequence[str], outputs: Sequence[str], what: str) -> ir.Model:
    """Make a model of what tf2onnx wrote: the user's order of inputs and outputs, a named batch, no foreign operators.

    Raises:
        SourceError: An operator that tf2onnx left as TensorFlow's own.
    """
    model: ir.Model = ir.from_proto(proto)
    foreign = sorted(
        {f"{n.domain}.{n.op_type}" for g in model.graphs() for n in g if n.domain not in ("", "ai.onnx.ml")}
    )
    known = {node.op_type for graph in model.graphs() for node in graph if node.domain == ""}
    if foreign or (foreign := _unknown(known)):
        raise SourceError(f"{what} holds operators that have no ONNX counterpart: {', '.join(foreign)}; replace them")
    shorten(model)
    _reorder(model.graph.inputs, inputs)
    _reorder(model.graph.outputs, outputs)
    for value in model.graph.inputs:
        if value.shape is not None:
            # tf2onnx numbers what Keras calls None; a first dimension of unknown size is the batch.
            value.shape = ir.Shape(
                [
                    ("batch" if axis == 0 else f"{value.name}_{axis}") if isinstance(dim, ir.SymbolicDim) else dim
                    for axis, dim in enumerate(value.shape)
                ]
            )
    for value in model.graph.outputs:
        if value.shape is not None:
            value.shape = ir.Shape([None if isinstance(dim, ir.SymbolicDim) else dim for dim in value.shape])
    return model


def _unknown(ops: set[str]) -> list[str]:
    import onnx.defs

    return sorted(op for op in ops if not onnx.defs.has(op))


def _reorder(values: Any, names: Sequence[str]) -> None:
    by_name = {value.name: value for value in values}
    ordered = [by_name[name] for name in names if name in by_name]
    ordered += [value for value in values if value.name not in set(names)]
    values.clear()
    values.extend(ordered)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
