"""Running a hub graph as it stands, any intermediate value included, by onnxruntime with its optimisations off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.hub.mapped import LARGE_BYTES, release, weight_bytes
from haversack.convert.hub.skeleton import skeleton
from haversack.runtimes.engines import Array

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

SHARED_BYTES = 1 << 16
"""Initializers from this size on are handed to onnxruntime as they lie in memory, without a copy."""


class Evaluator:
    """A hub graph, ready to run.

    With onnxruntime's graph optimisations off every node computes what its operator's specification says, one after
    the other, so that this is the reference an artifact is judged against.

    Args:
        model: The hub graph; it is not changed, and its weights are not copied.
        outputs: Names of the values that `run` gives, graph outputs or intermediate values; all graph outputs by
            default.
        threads: How many CPU threads one call may use.
        large_bytes: Weights of more than this together are fed anew in each run, which no session copies or packs.

    Raises:
        KeyError: A name in `outputs` is no value of the graph.
        UnsupportedError: onnxruntime has no kernel for an operator, or rejects the graph.
    """

    def __init__(
        self,
        model: ir.Model,
        outputs: Sequence[str] | None = None,
        *,
        threads: int = 1,
        large_bytes: int = LARGE_BYTES,
    ):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        proto, weights = skeleton(model, kept_bytes=SHARED_BYTES)
        self._fed = _fed(proto.graph, weights) if weight_bytes(model) > large_bytes else {}
        self._shared = _shared(weights, options)  # must outlive the session
        self.outputs = tuple(outputs) if outputs is not None else tuple(v.name or "" for v in model.graph.outputs)
        if outputs is not None:
            _select_outputs(proto.graph, self.outputs)
        try:
            self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes, which share no base
            reason = str(error).splitlines()[0]
            blocker = Blocker(model.graph.name or "graph", "graph", f"onnxruntime rejects it: {reason}", "correct it")
            raise UnsupportedError("the reference evaluator", [blocker]) from None
        self.inputs = tuple(value.name for value in self._session.get_inputs() if value.name not in self._fed)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: One array an input, with the input's dtype and shape.

        Returns:
            The outputs by name, in the order asked for.
        """
        names = list(self.outputs)
        return dict(zip(names, self._session.run(names, {**self._fed, **feeds}), strict=True))


def _fed(graph: onnx.GraphProto, weights: dict[str, ir.TensorProtocol]) -> dict[str, Array]:
    """Make inputs of the graph's large initializers, which are taken out of `weights`."""
    from onnx import helper

    large = [tensor for tensor in graph.initializer if tensor.name in weights]
    for tensor in large:
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        graph.initializer.remove(tensor)
    return {tensor.name: _array(weights.pop(tensor.name)) for tensor in large}


def _shared(weights: Mapping[str, ir.TensorProtocol], options: ort.SessionOptions) -> list[object]:
    """Register large weights with the session options."""
    import onnxruntime as ort

    values = [ort.OrtValue.ortvalue_from_numpy(_array(tensor)) for tensor in weights.values()]
    if values:
        options.add_external_initializers(list(weights), values)
    return values


def _array(tensor: ir.TensorProtocol) -> Array:
    """The elements in order and aligned: a view may be in another order, and a file holds them at any byte."""
    array: Array = tensor.numpy()
    held = np.require(array, requirements=["C", "A"])
    if held is not array:
        release(array)
    return held


def _select_outputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    known = {info.name: info for info in (*graph.value_info, *graph.output, *graph.input)}
    produced = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    for name in names:
        if name not in produced and name not in known:
            raise KeyError(f"the graph has no value named {name!r}")
    chosen = [known.get(name) for name in names]
    del graph.output[:]
    for name, info in zip(names, chosen, strict=True):
        graph.output.add().CopyFrom(info) if info is not None else graph.output.add(name=name)
