"""Reading Core ML's protocol buffers without a protobuf library.

A `.mlpackage` holds one `Model` message. Reading it needs the wire format (four wire types) and the numbers and kinds
of the fields that matter; both are small, so a device needs no protobuf runtime and no generated code. Fields that the
table does not name are skipped, which is what the format asks of a reader.

Sources: the protocol buffers encoding document (wire types, packed fields, maps as repeated key/value messages) and
the field numbers of Core ML's published `Model.proto`, `FeatureTypes.proto` and `MIL.proto`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from haversack.runtimes.errors import EngineError

Message = dict[str, Any]

# Deeper nesting than any program has; a hostile file must not exhaust the interpreter's stack.
MAX_DEPTH = 64

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        name: The key in the decoded dictionary.
        kind: `int` (signed varint), `bool`, `float`, `double`, `string`, `bytes`, or the name of a message in SCHEMA.
        repeated: A list of values; scalars become one NumPy array.
        mapped: A protobuf map: the value is a message of SCHEMA, the key a string.
    """

    name: str
    kind: str
    repeated: bool = False
    mapped: bool = False


def _fields(**table: tuple[int, str]) -> dict[int, Field]:
    """Build a message's table from `name=(number, kind)`; a kind ending in `*` is repeated, in `@` a map to it."""
    return {
        number: Field(name, kind.rstrip("*@"), kind.endswith("*"), kind.endswith("@"))
        for name, (number, kind) in table.items()
    }


SCHEMA: dict[str, dict[int, Field]] = {
    # Model.proto
    "Model": _fields(specificationVersion=(1, "int"), description=(2, "ModelDescription"), mlProgram=(502, "Program")),
    "ModelDescription": _fields(
        input=(1, "FeatureDescription*"),
        output=(10, "FeatureDescription*"),
        state=(13, "FeatureDescription*"),
        predictedFeatureName=(11, "string"),
        predictedProbabilitiesName=(12, "string"),
        functions=(20, "FunctionDescription*"),
        defaultFunctionName=(21, "string"),
    ),
    "FunctionDescription": _fields(
        name=(1, "string"),
        input=(2, "FeatureDescription*"),
        output=(3, "FeatureDescription*"),
        state=(6, "FeatureDescription*"),
        predictedFeatureName=(4, "string"),
        predictedProbabilitiesName=(5, "string"),
    ),
    "FeatureDescription": _fields(name=(1, "string"), type=(3, "FeatureType")),
    # FeatureTypes.proto
    "FeatureType": _fields(
        int64Type=(1, "Empty"),
        doubleType=(2, "Empty"),
        stringType=(3, "Empty"),
        imageType=(4, "ImageFeatureType"),
        multiArrayType=(5, "ArrayFeatureType"),
        dictionaryType=(6, "DictionaryFeatureType"),
        stateType=(8, "StateFeatureType"),
        isOptional=(1000, "bool"),
    ),
    "Empty": {},
    "ImageFeatureType": _fields(width=(1, "int"), height=(2, "int"), colorSpace=(3, "int")),
    "ArrayFeatureType": _fields(
        shape=(1, "int*"),
        dataType=(2, "int"),
        enumeratedShapes=(21, "EnumeratedShapes"),
        shapeRange=(31, "ShapeRange"),
    ),
    "EnumeratedShapes": _fields(shapes=(1, "Shape*")),
    "Shape": _fields(shape=(1, "int*")),
    "ShapeRange": _fields(sizeRanges=(1, "SizeRange*")),
    "SizeRange": _fields(lowerBound=(1, "int"), upperBound=(2, "int")),
    "DictionaryFeatureType": _fields(int64KeyType=(1, "Empty"), stringKeyType=(2, "Empty")),
    "StateFeatureType": _fields(arrayType=(1, "ArrayFeatureType")),
    # MIL.proto
    "Program": _fields(version=(1, "int"), functions=(2, "Function@")),
    "Function": _fields(inputs=(1, "NamedValueType*"), opset=(2, "string"), block_specializations=(3, "Block@")),
    "Block": _fields(inputs=(1, "NamedValueType*"), outputs=(2, "string*"), operations=(3, "Operation*")),
    "Operation": _fields(
        type=(1, "string"),
        inputs=(2, "Argument@"),
        outputs=(3, "NamedValueType*"),
        blocks=(4, "Block*"),
        attributes=(5, "Value@"),
    ),
    "Argument": _fields(arguments=(1, "Binding*")),
    "Binding": _fields(name=(1, "string"), value=(2, "Value")),
    "NamedValueType": _fields(name=(1, "string"), type=(2, "ValueType")),
    "ValueType": _fields(
        tensorType=(1, "TensorType"),
        listType=(2, "ListType"),
        tupleType=(3, "TupleType"),
        dictionaryType=(4, "DictionaryType"),
        stateType=(5, "StateType"),
    ),
    "TensorType": _fields(dataType=(1, "int"), rank=(2, "int"), dimensions=(3, "Dimension*")),
    "Dimension": _fields(constant=(1, "ConstantDimension"), unknown=(2, "UnknownDimension")),
    "ConstantDimension": _fields(size=(1, "int")),
    "UnknownDimension": _fields(variadic=(1, "bool")),
    "ListType": _fields(type=(1, "ValueType"), length=(2, "Dimension")),
    "TupleType": _fields(types=(1, "ValueType*")),
    "DictionaryType": _fields(keyType=(1, "ValueType"), valueType=(2, "ValueType")),
    "StateType": _fields(wrappedType=(1, "ValueType")),
    "Value": _fields(type=(2, "ValueType"), immediateValue=(3, "ImmediateValue"), blobFileValue=(5, "BlobFileValue")),
    "BlobFileValue": _fields(fileName=(1, "string"), offset=(2, "int")),
    "ImmediateValue": _fields(tensor=(1, "TensorValue"), tuple=(2, "TupleValue"), list=(3, "ListValue")),
    "TensorValue": _fields(
        floats=(1, "RepeatedFloats"),
        ints=(2, "RepeatedInts"),
        bools=(3, "RepeatedBools"),
        strings=(4, "RepeatedStrings"),
        longInts=(5, "RepeatedInts"),
        doubles=(6, "RepeatedDoubles"),
        bytes=(7, "RepeatedBytes"),
    ),
    "RepeatedFloats": _fields(values=(1, "float*")),
    "RepeatedDoubles": _fields(values=(1, "double*")),
    "RepeatedInts": _fields(values=(1, "int*")),
    "RepeatedBools": _fields(values=(1, "bool*")),
    "RepeatedStrings": _fields(values=(1, "string*")),
    "RepeatedBytes": _fields(values=(1, "bytes")),
    "TupleValue": _fields(values=(1, "Value*")),
    "ListValue": _fields(values=(1, "Value*")),
}

_PACKED: dict[str, np.dtype[Any]] = {"float": np.dtype("<f4"), "double": np.dtype("<f8")}
_ARRAYS: dict[str, np.dtype[Any]] = {
    "int": np.dtype("i8"),
    "bool": np.dtype("?"),
    "float": np.dtype("f4"),
    "double": np.dtype("f8"),
}


def decode(buffer: bytes | memoryview, message: str = "Model") -> Message:
    """Decode one message.

    Args:
        buffer: The whole serialized message.
        message: Its name in `SCHEMA`.

    Returns:
        A dictionary of the fields that are present: repeated scalars as NumPy arrays, repeated strings and messages
        as lists, maps as dictionaries.

    Raises:
        EngineError: The bytes are not a message of this kind: truncated, too deeply nested, or of a wrong wire type.
    """
    try:
        return _decode(memoryview(buffer), message, 0)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise EngineError(f"not a valid Core ML model: the {message} message is damaged ({error})") from error


def _decode(buffer: memoryview, message: str, depth: int) -> Message:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    schema = SCHEMA[message]
    result: Message = {}
    position, end = 0, len(buffer)
    while position < end:
        key, position = _varint(buffer, position)
        wire = key & 7
        value: Any
        if wire == VARINT:
            value, position = _varint(buffer, position)
        elif wire == DELIMITED:
            size, position = _varint(buffer, position)
            if size > end - position:
                raise ValueError("a field runs past its end")
            value = buffer[position : position + size]
            position += size
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            if size > end - position:
                raise ValueError("a field runs past its end")
            value = buffer[position : position + size]
            position += size
        else:
            raise ValueError(f"wire type {wire} is not one of the format's")
        field = schema.get(key >> 3)
        if field is not None:
            _store(result, field, wire, value, depth)
    for field in schema.values():
        if field.repeated and field.kind in _ARRAYS and field.name in result:
            result[field.name] = np.concatenate(result[field.name])
    return result


def _store(result: Message, field: Field, wire: int, value: Any, depth: int) -> None:
    """Add one decoded field to the message under construction."""
    if field.mapped:
        entry = _entry(value, wire, field.kind, depth)
        result.setdefault(field.name, {})[entry[0]] = entry[1]
    elif field.repeated and field.kind in _ARRAYS:
        result.setdefault(field.name, []).append(_array(value, wire, field.kind))
    else:
        single = _single(value, wire, field.kind, depth)
        if field.repeated:
            result.setdefault(field.name, []).append(single)
        else:
            result[field.name] = single


def _entry(value: memoryview, wire: int, kind: str, depth: int) -> tuple[str, Message]:
    """Decode one entry of a map: a message whose field 1 is the key and whose field 2 is the value."""
    if wire != DELIMITED:
        raise ValueError("a map entry is not a message")
    key, content, position = "", memoryview(b""), 0
    while position < len(value):
        tag, position = _varint(value, position)
        size, position = _varint(value, position)
        if tag & 7 != DELIMITED or size > len(value) - position:
            raise ValueError("a map entry is damaged")
        if tag >> 3 == 1:
            key = str(value[position : position + size], "utf-8")
        elif tag >> 3 == 2:
            content = value[position : position + size]
        position += size
    return key, _decode(content, kind, depth + 1)


def _single(value: Any, wire: int, kind: str, depth: int) -> Any:
    """Convert one field that is not an array of scalars."""
    if kind in ("int", "bool"):
        if wire != VARINT:
            raise ValueError(f"an {kind} field has wire type {wire}")
        return bool(value) if kind == "bool" else _signed(value)
    if kind in _PACKED:
        return float(np.frombuffer(value, _PACKED[kind])[0])
    if wire != DELIMITED:
        raise ValueError(f"a {kind} field has wire type {wire}")
    if kind == "string":
        return str(value, "utf-8")
    if kind == "bytes":
        return bytes(value)
    return _decode(value, kind, depth + 1)


def _array(value: Any, wire: int, kind: str) -> np.ndarray[Any, Any]:
    """Convert a packed run of scalars, or a single one, to an array."""
    if kind in _PACKED:
        return np.frombuffer(value, _PACKED[kind]).astype(_ARRAYS[kind])
    if wire == VARINT:
        return np.array([_signed(value)], _ARRAYS[kind])
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(_signed(number))
    return np.array(numbers, _ARRAYS[kind])


def _varint(buffer: memoryview, position: int) -> tuple[int, int]:
    """Read one base-128 varint and return it with the position after it."""
    result = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint is longer than ten bytes")


def _signed(value: int) -> int:
    """Read a 64-bit varint as the two's complement number it encodes."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
