"""Classifiers as scikit-learn's exporters write them: outputs that hold dictionaries or strings become tensors.

No device's engine has a counterpart of either (onnxruntime-web fails on the first), and what they say is known before
the model runs:

    ZipMap             [samples, classes] scores → one dictionary a sample; the scores are the output instead
    string labels      the classes' names; the label's output holds the class's index instead, and the names are kept

This works on the file's own messages, because onnx-ir has no dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from haversack.convert.errors import SourceError

if TYPE_CHECKING:
    import onnx

ML = "ai.onnx.ml"

STRING, FLOAT, INT64 = 8, 1, 7
"""onnx.TensorProto.DataType."""

PASSING = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
"""Operators of the default domain whose output is their first input's elements."""

SHOWN_CLASSES = 12


@dataclass(frozen=True)
class Restated:
    """An output that the file has and the hub graph has otherwise.

    Attributes:
        kind: `scores`: a dictionary a sample became a row. `label`: a class's name became its index.
        classes: In the order of the columns, or of the indices.
    """

    kind: Literal["scores", "label"]
    classes: tuple[str | int, ...]


def restate_outputs(model: onnx.ModelProto, name: str) -> tuple[dict[str, Restated], tuple[str, ...]]:
    """Make tensors of numbers of the outputs of a classifier, in place.

    Args:
        model: As it was read.
        name: The file's, for messages.

    Returns:
        The outputs that are said otherwise now, by name, and what the user should know, one sentence each.

    Raises:
        SourceError: An input is a dictionary or a sequence of them, or no output is left.
    """
    graph = model.graph
    for value in graph.input:
        if value.type.WhichOneof("value") == "map_type":
            raise SourceError(
                f"{name}: input {value.name} is a dictionary; export the model behind its DictVectorizer, and feed "
                "that one's array"
            )
    restated: dict[str, Restated] = {}
    notes: list[str] = []
    for node in [node for node in graph.node if node.domain == ML and node.op_type == "ZipMap"]:
        value = next((value for value in graph.output if value.name == node.output[0]), None)
        if value is None:
            continue
        classes = _classes(node)
        _replace_by_identity(node)
        value.type.Clear()
        value.type.tensor_type.elem_type = FLOAT
        value.type.tensor_type.shape.dim.add()
        value.type.tensor_type.shape.dim.add(dim_value=len(classes))
        restated[value.name] = Restated("scores", classes)
        notes.append(
            f"output {value.name} is an array [samples, {len(classes)}] of scores instead of a dictionary a sample "
            f"(ZipMap); its columns are {_listed(classes)}"
        )
    for value in list(graph.output):
        if value.type.tensor_type.elem_type != STRING:
            continue
        names = _numbered(graph, value.name)
        if names is None:
            graph.output.remove(value)
            notes.append(f"output {value.name} holds strings, which no engine here returns, and is left out")
            continue
        value.type.tensor_type.elem_type = INT64
        restated[value.name] = Restated("label", names)
        notes.append(f"output {value.name} is the class's index instead of its name: {_listed(names)}")
    if notes:
        if not graph.output:
            raise SourceError(f"{name}: every output holds strings; export the model with scores among its outputs")
        _forget_types(graph)
    return restated, tuple(notes)


def class_names(restated: Mapping[str, Restated]) -> tuple[str, ...] | None:
    """The classes of a classifier as names; None where the file says none."""
    found = next((each for each in restated.values() if each.kind == "scores"), None)
    found = found or next(iter(restated.values()), None)
    return None if found is None else tuple(map(str, found.classes))


def _listed(classes: tuple[str | int, ...]) -> str:
    shown = ", ".join(f"{index} {label}" for index, label in enumerate(classes[:SHOWN_CLASSES]))
    return shown if len(classes) <= SHOWN_CLASSES else f"{shown}, … ({len(classes)} in all)"


def _classes(node: onnx.NodeProto) -> tuple[str | int, ...]:
    for attribute in node.attribute:
        if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
            return tuple(attribute.ints)
        if attribute.name == "classlabels_strings" and attribute.strings:
            return tuple(text.decode() for text in attribute.strings)
    return ()


def _replace_by_identity(node: onnx.NodeProto) -> None:
    node.domain, node.op_type = "", "Identity"
    del node.attribute[:]
    del node.input[1:]


def _numbered(graph: onnx.GraphProto, name: str) -> tuple[str, ...] | None:
    """Make numbers of the names that `name` holds where they are named; None where that cannot be done."""
    producer = next((node for node in graph.node if name in node.output), None)
    if producer is None or not _only_passes_on(graph, name):
        return None
    if producer.domain in ("", "ai.onnx") and producer.op_type in PASSING:
        return _numbered(graph, producer.input[0])
    attributes = {attribute.name: attribute for attribute in producer.attribute}
    labels = attributes.get("classlabels_strings")
    if producer.domain == ML and labels is not None and labels.strings and producer.output[0] == name:
        names = tuple(text.decode() for text in labels.strings)
        ints = "classlabels_int64s" if producer.op_type == "TreeEnsembleClassifier" else "classlabels_ints"
        producer.attribute.remove(labels)
        producer.attribute.add(name=ints, type=_INTS, ints=range(len(names)))
        return names
    values = attributes.get("values_strings")
    if producer.domain == ML and producer.op_type == "LabelEncoder" and values is not None and values.strings:
        names = tuple(dict.fromkeys(text.decode() for text in values.strings))
        numbers = [names.index(text.decode()) for text in values.strings]
        producer.attribute.remove(values)
        producer.attribute.add(name="values_int64s", type=_INTS, ints=numbers)
        default = attributes.get("default_string")
        if default is not None:
            producer.attribute.remove(default)
        return names
    if producer.op_type in ("ArrayFeatureExtractor", "Gather"):
        table = next((each for each in graph.initializer if each.name == producer.input[0]), None)
        if table is None or table.data_type != STRING or not _read_once(graph, table.name):
            return None
        names = tuple(text.decode() for text in table.string_data)
        table.ClearField("string_data")
        table.data_type = INT64
        table.int64_data.extend(range(len(names)))
        return names
    return None


_INTS = 7
"""onnx.AttributeProto.INTS."""


def _only_passes_on(graph: onnx.GraphProto, name: str) -> bool:
    """Whether nobody inside the graph reads the strings but nodes that hand them on to an output."""
    readers = [node for node in graph.node if name in node.input]
    return all(
        node.domain in ("", "ai.onnx")
        and node.op_type in PASSING
        and node.input[0] == name
        and _only_passes_on(graph, node.output[0])
        for node in readers
    )


def _read_once(graph: onnx.GraphProto, name: str) -> bool:
    return sum(list(node.input).count(name) for node in graph.node) == 1


def _forget_types(graph: onnx.GraphProto) -> None:
    """Drop declared types that may be wrong now; they are inferred anew."""
    kept = [value for value in graph.value_info if value.type.tensor_type.elem_type not in (STRING, 0)]
    del graph.value_info[:]
    graph.value_info.extend(kept)
