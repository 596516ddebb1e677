"""Give an `.ort` file the same bytes every time.

onnxruntime writes one part of the file, the kernel type strings of each operator, in the order of a hash table that is
seeded anew in each session. This part stands in front of everything else, because a FlatBuffer is written back to
front and it is written last. So the front is written again, in sorted order, and the rest is kept as it is: offsets in
a FlatBuffer are relative, only the root's one offset to the model changes.

The tables, by their slots in onnxruntime's `ort.fbs` (format versions 5 and 6, which onnxruntime 1.15 and later write):

    InferenceSession            ort_version: string (0), model: Model (1), kernel_type_str_resolver (3)
    KernelTypeStrResolver       op_kernel_type_str_args: [OpIdKernelTypeStrArgsEntry] (0)
    OpIdKernelTypeStrArgsEntry  op_id: string (0), kernel_type_str_args: [KernelTypeStrArgsEntry] (1)
    KernelTypeStrArgsEntry      kernel_type_str: string (0), args: [ArgTypeAndIndex] (1)
    ArgTypeAndIndex             arg_type: int8 (0), index: uint32 (1)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

import flatbuffers

IDENTIFIER = b"ORTM"
VERSION, MODEL, RESOLVER = 0, 1, 3
VERSIONS = (b"5", b"6")
ALIGNMENT = 64
"""The rest of the file keeps its place modulo this, more than any vector in it asks for."""

PLACEHOLDER = 0xFFFFFFFF

T = TypeVar("T")
Arg = tuple[int, int]
Entry = tuple[bytes, list[tuple[bytes, list[Arg]]]]


def canonical(content: bytes) -> bytes:
    """The `.ort` file `content` with its kernel type strings sorted.

    Raises:
        ValueError: The file is of a format version that this module does not know.
    """
    reader = _Reader(content)
    root = reader.follow(0)
    version = reader.string(reader.need(root, VERSION))
    if content[4:8] != IDENTIFIER or version not in VERSIONS:
        raise ValueError(f"an .ort file of format version {version!r} is not known; known are {VERSIONS}")
    resolver = reader.field(root, RESOLVER)
    if resolver is None:
        return content
    vector = reader.need(reader.follow(resolver), 0)
    entries = sorted(reader.vector(vector, lambda at: _entry(reader, reader.follow(at))))
    model = reader.follow(reader.need(root, MODEL))
    start = min(model, model - reader.number("i", model))  # the model's table, or its list of fields in front of it
    front = bytearray(_front(version, entries))
    front += bytes((start - len(front)) % ALIGNMENT)
    made = _Reader(bytes(front))
    place = made.need(made.follow(0), MODEL)
    assert made.number("I", place) == PLACEHOLDER
    struct.pack_into("<I", front, place, len(front) + model - start - place)
    return bytes(front) + content[start:]


class _Reader:
    """The few reads of a FlatBuffer that are needed."""

    def __init__(self, content: bytes):
        self.content = content

    def number(self, kind: str, at: int) -> int:
        found: int = struct.unpack_from(f"<{kind}", self.content, at)[0]
        return found

    def follow(self, at: int) -> int:
        return at + self.number("I", at)

    def field(self, table: int, slot: int) -> int | None:
        """Where a field of a table lies; None where it has its default."""
        fields = table - self.number("i", table)
        place = 4 + 2 * slot
        offset = self.number("H", fields + place) if place < self.number("H", fields) else 0
        return table + offset if offset else None

    def need(self, table: int, slot: int) -> int:
        found = self.field(table, slot)
        if found is None:
            raise ValueError("the .ort file lacks a required field")
        return found

    def string(self, at: int) -> bytes:
        start = self.follow(at)
        return self.content[start + 4 : start + 4 + self.number("I", start)]

    def vector(self, at: int, read: Callable[[int], T]) -> list[T]:
        """Every element of a vector of tables, by `read` at the place of its offset."""
        start = self.follow(at)
        return [read(start + 4 + 4 * i) for i in range(self.number("I", start))]


def _entry(reader: _Reader, table: int) -> Entry:
    def argument(at: int) -> Arg:
        inner = reader.follow(at)
        kind, index = reader.field(inner, 0), reader.field(inner, 1)
        return (
            0 if kind is None else reader.number("b", kind),
            0 if index is None else reader.number("I", index),
        )

    def named(at: int) -> tuple[bytes, list[Arg]]:
        inner = reader.follow(at)
        arguments = reader.field(inner, 1)
        return reader.string(reader.need(inner, 0)), [] if arguments is None else reader.vector(arguments, argument)

    names = reader.field(table, 1)
    return reader.string(reader.need(table, 0)), [] if names is None else sorted(reader.vector(names, named))


def _front(version: bytes, entries: list[Entry]) -> bytes:
    """The root and the kernel type strings, with a placeholder where the root points to the model."""
    builder = flatbuffers.Builder(1024)

    def table(*slots: tuple[int, str, int]) -> int:
        builder.StartObject(1 + max(slot for slot, _, _ in slots))
        for slot, kind, number in slots:
            getattr(builder, f"Prepend{kind}Slot")(slot, number, 0)
        end: int = builder.EndObject()
        return end

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        end: int = builder.EndVector()
        return end

    made = []
    for op, names in entries:
        inner = []
        for name, arguments in names:
            args = vector([table((0, "Int8", kind), (1, "Uint32", index)) for kind, index in arguments])
            label = builder.CreateString(name)
            inner.append(table((0, "UOffsetTRelative", label), (1, "UOffsetTRelative", args)))
        several = vector(inner)
        label = builder.CreateString(op)
        made.append(table((0, "UOffsetTRelative", label), (1, "UOffsetTRelative", several)))
    resolver = table((0, "UOffsetTRelative", vector(made)))
    label = builder.CreateString(version)
    root = table(
        (VERSION, "UOffsetTRelative", label), (MODEL, "Uint32", PLACEHOLDER), (RESOLVER, "UOffsetTRelative", resolver)
    )
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())
