"""Outputs whose rows are selected in a run: compared row by row with their counterparts, not place by place.

NonMaxSuppression decides by comparisons, so that the smallest rounding before it drops a row, adds one, or changes the
order of two whose scores are nearly equal; every later place then holds another row. To select a row is a prediction:
where a contract allows so many changed ones, as many rows may lack a counterpart, and all others are held to the
relative error that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.selected_rows import PADDED, pad_rows
from haversack.convert.verify.contract import RELATIVE_FLOOR, Contract
from haversack.runtimes.engines import Array

WINDOW = 8
"""How many places from its own a counterpart is looked for: near ties change places, other rows do not."""


@dataclass(frozen=True)
class Paired:
    """Outputs whose rows stand at the same places.

    Attributes:
        source: The source's outputs: of selected rows, those with a counterpart.
        outputs: The artifact's, likewise, in the source's order.
        notes: What was left out or moved, one sentence a selection.
        failure: How many rows are without counterpart, in words, where they are more than the contract allows.
        alone: How many rows are without counterpart, in the source or in the artifact, whichever has more of them.
    """

    source: dict[str, Array]
    outputs: dict[str, Array]
    notes: tuple[str, ...] = ()
    failure: str = ""
    alone: int = 0


def paired(model: ir.Model, source: Mapping[str, Array], outputs: Mapping[str, Array], contract: Contract) -> Paired:
    """Bring rows of the artifact to the places of the source's.

    Args:
        model: The compressed hub graph.
        source: The source's outputs, all samples joined along axis 0.
        outputs: The artifact's.
        contract: One that allows no changed predictions leaves all as it is.
    """
    result = Paired(dict(source), dict(outputs))
    if contract.max_changed is None or contract.max_relative is None:
        return result
    notes: list[str] = []
    failures: list[str] = []
    total = 0
    for names in _selections(model):
        if any(source[name].shape[1:] != outputs[name].shape[1:] for name in names):
            continue  # flattened, since the rows do not run along the first axis
        pairs = _counterparts([source[name] for name in names], [outputs[name] for name in names], contract)
        before, after = len(source[names[0]]), len(outputs[names[0]])
        alone = max(before, after) - len(pairs)
        total += alone
        moved = sum(one != other for one, other in pairs)
        if not alone and not moved:
            continue
        allowed = contract.max_changed * -(-before // 1000)
        called = f"the rows that NonMaxSuppression selects ({', '.join(names)})"
        if alone > allowed:
            failures.append(f"{alone} of {before} of {called} have no counterpart, {allowed} allowed")
            continue
        places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        for name in names:
            result.source[name] = source[name][places[:, 0]]
            result.outputs[name] = outputs[name][places[:, 1]]
        notes.append(
            f"{called[0].upper()}{called[1:]} are compared with their counterparts: {before} in the source, "
            f"{after} in the artifact, {alone} without, {allowed} allowed"
        )
    return Paired(result.source, result.outputs, tuple(notes), "; ".join(failures), total)


def _selections(model: ir.Model) -> list[list[str]]:
    """The graph outputs of each selection whose rows run along their first axis."""
    found: dict[int, list[str]] = {}
    for value, (axis, count, _) in pad_rows(model).outputs.items():
        if axis == 0 and value.name is not None:
            found.setdefault(id(count), []).append(value.name.removesuffix(PADDED))
    return list(found.values())


def _counterparts(source: Sequence[Array], outputs: Sequence[Array], contract: Contract) -> list[tuple[int, int]]:
    """For each row of the source the nearest one of the artifact that is within the contract and not taken."""
    assert contract.max_relative is not None
    free = set(range(len(outputs[0])))
    reach = WINDOW + abs(len(source[0]) - len(outputs[0]))
    peaks = [max(float(np.abs(array).max(initial=0)), RELATIVE_FLOOR) for array in source]
    pairs = []
    for place in range(len(source[0])):
        near = {
            other: max(map(_distance, (a[place] for a in source), (a[other] for a in outputs), peaks))
            for other in range(place - reach, place + reach + 1)
            if other in free
        }
        best = min(near, key=lambda other: (near[other], abs(other - place)), default=-1)
        if best >= 0 and near[best] <= contract.max_relative:
            free.remove(best)
            pairs.append((place, best))
    return pairs


def _distance(one: Array, other: Array, peak: float) -> float:
    """The largest relative difference of two rows; integers and booleans are equal or infinitely far."""
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else np.inf
    far = float(np.abs(one.astype(np.float64) - other).max(initial=0)) / peak
    return far if far == far else np.inf
