"""What a Core ML package can hold of a layer: see `targets/precisions.py`. How fast a device is is not known here."""

from __future__ import annotations

from haversack.convert.compress.recipes import STORAGES
from haversack.convert.targets.precisions import UNDER_INT8, Held, Kind, Table


def table(kind: Kind) -> Table:
    """By precision, how it is held."""
    found = {"float32": Held(32), "float16": Held(16, note="a program's float16 arithmetic is its recipe's")}
    if kind not in ("convolution-3d", "other"):
        found["int8"] = Held(8, min_runtime="iOS17")
        found["int8-int4"] = Held(4, min_runtime="iOS18")
        for name in UNDER_INT8:
            found[name] = Held(int(name[-1]), min_runtime="iOS18", note="iOS 17 where there is one scale a tensor")
    found["int8-weights"] = Held(8, min_runtime="iOS16")
    for name, storage in STORAGES.items():
        if storage.sparsity or storage.pattern:
            kept = 1 - (storage.sparsity or 0.5)
            bits = storage.bits or 32
            ios = "iOS18" if storage.bits else "iOS16"
            found[name] = Held(1 + kept * bits, min_runtime=ios)
        elif storage.palette:
            newer = storage.group is not None or storage.bits == 3
            found[name] = Held(storage.bits or 8, min_runtime="iOS18" if newer else "iOS16")
        else:
            found[name] = Held(4, min_runtime="iOS18")
    return found
