"""What travels between this process and the page: one JSON header and any number of arrays, without base64.

    4 bytes     length of the header, little-endian, padding included
    header      JSON, padded with spaces so that the arrays begin at a multiple of 8 bytes
    arrays      raw little-endian bytes in C order, each at a multiple of 8 bytes, so that the page views them in place

The header's `arrays` holds, for each, its `name`, `dtype` (NumPy's name; `string` for text), `shape`, and `at`, the
offset of its first byte from where the arrays begin; the elements of a text array stand in the header, as `text`.
The page's half is `page/frames.js`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array

Named = tuple[str, Array]


def pack(header: dict[str, Any], arrays: Iterable[Named] = ()) -> bytes:
    """One frame."""
    rows, parts, at = [], [], 0
    for name, array in arrays:
        row: dict[str, Any] = {"name": name, "shape": list(array.shape)}
        if array.dtype.kind in "OUST":
            rows.append(row | {"dtype": "string", "text": [str(each) for each in array.ravel().tolist()]})
            continue
        content = np.ascontiguousarray(array).tobytes()
        rows.append(row | {"dtype": array.dtype.name, "at": at})
        padding = -len(content) % 8
        parts += [content, b"\0" * padding]
        at += len(content) + padding
    text = json.dumps({**header, "arrays": rows}).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join([len(text).to_bytes(4, "little"), text, *parts])


def unpack(frame: bytes) -> tuple[dict[str, Any], list[Named]]:
    """The header and the arrays of a frame; the arrays can be written to.

    Raises:
        ValueError: It is no frame.
    """
    length = int.from_bytes(frame[:4], "little")
    if len(frame) < 4 + length:
        raise ValueError(f"a frame of {len(frame)} bytes ends in its header of {length}")
    header = json.loads(frame[4 : 4 + length])
    arrays = []
    for row in header.pop("arrays", []):
        shape = tuple(row["shape"])
        if row["dtype"] == "string":
            array = np.empty(len(row["text"]), object)
            array[:] = row["text"]
        else:
            dtype = np.dtype(row["dtype"])
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(frame, dtype, count, 4 + length + row["at"]).copy()
        arrays.append((row["name"], array.reshape(shape)))
    return header, arrays
