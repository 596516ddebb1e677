"""What an `.onnx` can hold of a layer: see `targets/precisions.py`.

Whatever is smaller than int8 is unpacked when the file is loaded, so the kernels are those of int8 or of float32.
"""

from __future__ import annotations

from haversack.convert.compress.recipes import STORAGES
from haversack.convert.targets.precisions import UNDER_INT8, Held, Kind, Table


def table(kind: Kind) -> Table:
    """By precision, how it is held."""
    found = {"float32": Held(32), "float16": Held(16, note="computes in float32")}
    if kind not in ("convolution-3d", "other"):
        found["int8"] = Held(8)
        found["int8-int4"] = Held(4, note="no .ort beside it")
        for name in UNDER_INT8:
            found[name] = _indices(int(name[-1]))
        found["int16"] = Held(8, native=False, note="computes in float32 between QuantizeLinear and DequantizeLinear")
    found["int8-weights"] = Held(8)
    for name, storage in STORAGES.items():
        if storage.sparsity or storage.pattern:
            continue
        found[name] = _indices(storage.bits or 8) if storage.palette else Held(4, note="no .ort beside it")
    return found


def _indices(bits: int) -> Held:
    """ONNX has indices of four and of eight bits."""
    return Held(4 if bits <= 4 else 8, native=bits in (4, 8), note="no .ort beside it" if bits <= 4 else "")
