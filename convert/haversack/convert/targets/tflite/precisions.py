"""What a TFLite file can hold of a layer: see `targets/precisions.py`."""

from __future__ import annotations

from haversack.convert.compress.recipes import STORAGES
from haversack.convert.targets.precisions import UNDER_INT8, Held, Kind, Table

SLOW_INT4 = "XNNPACK has no such kernel with int4: its container can be int8 (`int4_container`)"
EXPANDED = "written out, smaller only where the file travels compressed"


def table(kind: Kind) -> Table:
    """By precision, how it is held."""
    found = {"float32": Held(32), "float16": Held(16, min_runtime="TensorFlow Lite 1.15.0")}
    if kind not in ("convolution-3d", "other"):
        found["int8"] = Held(8, min_runtime="TensorFlow Lite 2.10.0" if kind == "dense" else "TensorFlow Lite 1.14.0")
        if kind == "transposed":
            found["int8-int4"] = Held(8, native=False, note="TRANSPOSE_CONV has no int4 kernel: int8 holds the numbers")
        elif kind in ("dense", "pointwise"):
            found["int8-int4"] = Held(4, min_runtime="LiteRT 1.1.2")
        else:
            found["int8-int4"] = Held(4, min_runtime="TensorFlow Lite 2.11.0", note=SLOW_INT4)
        found.update(dict.fromkeys(UNDER_INT8, Held(8, native=False, note=EXPANDED)))
        found["int16"] = Held(8, min_runtime="TensorFlow Lite 2.3.0", note="reference kernels, many times slower")
    found["int8-weights"] = Held(8, min_runtime="TensorFlow Lite 2.7.0")
    for name, storage in STORAGES.items():
        if storage.bits == 8 and not storage.palette:
            found[name] = Held(8, min_runtime="TensorFlow Lite 2.7.0", note="zeros take the bytes of any number")
        elif name == "int4-weights":
            note = "XNNPACK does not fold its DEQUANTIZE: slower than float unless the container is int8"
            found[name] = Held(4, min_runtime="LiteRT 1.0.1", note=note)
        else:
            found[name] = Held(32, native=False, note=EXPANDED)
    return found
