"""Looking inside an `.onnx` artifact: a layer as a model of its own, and inner values as outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from haversack.convert.errors import VerificationError
from haversack.convert.targets import Layer
from haversack.runtimes.engines import Array, Engine

if TYPE_CHECKING:
    import onnx

Handle = int | str


class OnnxProbe:
    """An ONNX file, external data excluded; handles are value names.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        import onnx

        self.model = onnx.load(path)
        graph = self.model.graph
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._whole: dict[tuple[str, ...], Engine] = {}

    def alone(self, layer: Layer, feeds: Mapping[Handle, Array]) -> dict[Handle, Array]:
        """Run the nodes between `feeds` and the layer's outputs."""
        names = [str(tap.tensor) for tap in layer.outputs]
        given = {str(name): value for name, value in feeds.items()}
        nodes, weights, reached = self._between(names, given)
        piece = self._model(nodes, weights, names, {name: given[name] for name in reached})
        results = _open(piece).run({name: given[name] for name in reached})
        return {name: results[name] for name in names}

    def values(self, feeds: Mapping[str, Array], layer: Layer) -> dict[Handle, Array]:
        """Run the whole model with the layer's outputs as its own."""
        names = tuple(str(tap.tensor) for tap in layer.outputs)
        if names not in self._whole:
            self._whole[names] = _open(self._model(list(self.model.graph.node), list(self._weights), names, None))
        results = self._whole[names].run(feeds)
        return {name: results[name] for name in names}

    def _between(
        self, outputs: Sequence[str], given: Mapping[str, Array]
    ) -> tuple[list[onnx.NodeProto], list[str], list[str]]:
        """The nodes and weights that `outputs` need when `given` is known, and which of `given` they read."""
        wanted, seen = list(outputs), set()
        weights: dict[str, None] = {}
        reached: dict[str, None] = {}
        needed: set[int] = set()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            # A layer's output may be among the known values of its own input only in a graph without a producer.
            if name in given and name not in outputs:
                reached[name] = None
            elif name in self._weights:
                weights[name] = None
            elif name in self._producers:
                node = self._producers[name]
                needed.add(id(node))
                wanted.extend(each for each in node.input if each)
            elif name in given:
                reached[name] = None
            else:
                raise VerificationError(f"the artifact's value {name!r} comes from nowhere")
        return [node for node in self.model.graph.node if id(node) in needed], list(weights), list(reached)

    def _model(
        self,
        nodes: Sequence[onnx.NodeProto],
        weights: Sequence[str],
        outputs: Sequence[str],
        inputs: Mapping[str, Array] | None,
    ) -> bytes:
        """A model of some of this one's nodes; `inputs` None keeps the model's own."""
        from onnx import ValueInfoProto, helper

        if inputs is None:
            heads = list(self.model.graph.input)
        else:
            heads = [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in inputs.items()
            ]
        # onnxruntime infers the type of an output that states none.
        tails = [ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(nodes, "part", heads, tails, [self._weights[name] for name in weights])
        model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        return bytes(model.SerializeToString())


def _open(content: bytes) -> Engine:
    from haversack.runtimes.engines.onnxruntime import open_artifact

    return open_artifact(content)
