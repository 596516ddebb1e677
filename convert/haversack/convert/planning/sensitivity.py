"""What each layer costs in each precision, alone: measured at the output, on calibration data.

One layer at a time is held as a candidate says, everything else stays float, and the output is compared with the
model's own. What lies before the layer is computed once for all its candidates (`hub/cut.py`). Layers are measured in
parallel processes; every row is written to a file as soon as it is known, so that a run that was stopped goes on where
it was.

Under integer arithmetic the layer's activations are rounded too. That is measured apart, as the candidate None: float
weights, input and output rounded. It is the same for all of the layer's candidates but float.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.mixed import Observed, held_weights, quantized_around
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.compress.storage import Seen
from haversack.convert.hub.cut import behind
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.planning.change import Change, compare, judged_values
from haversack.convert.planning.room import Room, of_constants, of_integers
from haversack.runtimes.engines import Array

SAMPLES = 128
"""So many calibration samples are looked at, evenly spread: the order of layers settles far sooner."""

WORTH_PROCESSES = 4_000
"""So many runs of the model (samples times candidates) before processes are worth their start."""

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Row:
    """One layer in one precision.

    Attributes:
        layer: Name of its node.
        plan: How it is held; None for its activations.
        change: What that does to the output.
        room: What its weights take; None for its activations.
    """

    layer: str
    plan: LayerPlan | None
    change: Change
    room: Room | None


@dataclass
class Sensitivity:
    """All rows of a model, by layer.

    Attributes:
        rows: By layer and candidate; None among them under integer arithmetic.
    """

    rows: dict[str, dict[LayerPlan | None, Row]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Remember a row."""
        self.rows.setdefault(row.layer, {})[row.plan] = row

    def cost(self, layer: str, plan: LayerPlan) -> float:
        """What a layer costs under a plan: its weights, and its activations where it computes in integers."""
        rows = self.rows[layer]
        rounding = rows[None].change.cost if plan.integer and None in rows else 0.0
        return rows[plan].change.cost + rounding

    def total(self, layers: Mapping[str, LayerPlan]) -> float:
        """What layers cost together: independent errors add up."""
        return sum(self.cost(name, plan) for name, plan in layers.items())


def measure(
    model: ir.Model,
    wanted: Mapping[str, Sequence[LayerPlan]],
    observed: Observed,
    samples: Sequence[Feeds],
    *,
    ranges: Plan | None = None,
    store: Path | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure layers.

    Args:
        model: The float hub graph, with static shapes; not changed.
        wanted: The candidates of each layer.
        observed: What calibration data says of the model.
        samples: Calibration samples to run on.
        ranges: The plan whose arithmetic and ranges activations are rounded by; None: they are not measured.
        store: A folder that keeps what was measured; None: nothing is kept.
        jobs: Processes at most; None: one a core.
        progress: Told how far it is.

    Returns:
        Every row that was wanted.
    """
    known = _Store.open(store, model, samples, observed, ranges)
    found = Sensitivity()
    todo: dict[str, list[LayerPlan | None]] = {}
    for layer, plans in wanted.items():
        asked: list[LayerPlan | None] = list(plans)
        if ranges is not None and observed.activations is not None and any(plan.integer for plan in plans):
            asked.append(None)
        for plan in asked:
            row = known.rows.get((layer, plan))
            if row is not None:
                found.add(row)
            else:
                todo.setdefault(layer, []).append(plan)
    done, total = 0, sum(map(len, todo.values()))
    for rows in _measured(model, todo, observed, list(samples), ranges, jobs):
        for row in rows:
            found.add(row)
        known.write(rows)
        done += len(rows)
        if progress is not None and rows:
            progress(done / total, f"measuring {rows[0].layer}, {done} of {total}")
    # In the order in which they were asked for, whichever process was first.
    ordered = {
        layer: {plan: found.rows[layer][plan] for plan in (*plans, None) if plan in found.rows[layer]}
        for layer, plans in wanted.items()
    }
    return Sensitivity(ordered)


def _measured(
    model: ir.Model,
    todo: Mapping[str, list[LayerPlan | None]],
    observed: Observed,
    samples: list[Feeds],
    ranges: Plan | None,
    jobs: int | None,
) -> Iterable[list[Row]]:
    """The rows of one layer after the other, in the order in which they are done."""
    count = min(jobs or os.cpu_count() or 1, len(todo))
    work = [(layer, plans) for layer, plans in todo.items()]
    if count < 2 or len(samples) * sum(map(len, todo.values())) < WORTH_PROCESSES:
        for layer, plans in work:
            yield _layer(model, layer, plans, observed, samples, ranges)
        return
    from joblib import Parallel, delayed

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ir.save(model, folder / "model.onnx")
        arrays: dict[str, Any] = {f"{n} {key}": each for n, feeds in enumerate(samples) for key, each in feeds.items()}
        np.savez(folder / "samples.npz", **arrays)
        tasks = (
            delayed(_in_process)(folder, layer, plans, _part(model, layer, observed), ranges) for layer, plans in work
        )
        yield from Parallel(n_jobs=count, return_as="generator_unordered")(tasks)


def _part(model: ir.Model, layer: str, observed: Observed) -> Observed:
    """What is known of one layer, so that not everything goes to every process."""
    node = next(node for node in model.graph if node.name == layer)
    names = {str(value.name) for value in node.inputs if value is not None}
    return Observed(
        observed.activations,
        Seen(
            {name: array for name, array in observed.weights.importance.items() if name in names},
            {name: array for name, array in observed.weights.moments.items() if name in names},
        ),
    )


def _in_process(
    folder: Path, layer: str, plans: list[LayerPlan | None], observed: Observed, ranges: Plan | None
) -> list[Row]:
    return _layer(ir.load(folder / "model.onnx"), layer, plans, observed, _samples(folder / "samples.npz"), ranges)


@functools.cache
def _samples(path: Path) -> list[Feeds]:
    """The samples that were left for the processes, read once by each."""
    found: dict[int, dict[str, Array]] = {}
    with np.load(path) as data:
        for key in data.files:
            number, name = key.split(" ", 1)
            found.setdefault(int(number), {})[name] = data[key]
    return [found[number] for number in sorted(found)]


def _layer(
    model: ir.Model,
    layer: str,
    plans: list[LayerPlan | None],
    observed: Observed,
    samples: Sequence[Feeds],
    ranges: Plan | None,
) -> list[Row]:
    """Measure one layer: what it reads is computed once, what lies behind it once a candidate."""
    judged = judged_values(model)
    _, taken = behind(model, [layer])
    given = {value.name for value in model.graph.inputs}
    computed = [name for name in taken if name not in given]
    before = Evaluator(model, [*computed, *judged])
    held = [before.run(dict(feeds)) for feeds in samples]
    entering = [
        {name: (feeds if name in given else known)[name] for name in taken}
        for feeds, known in zip(samples, held, strict=True)
    ]
    reference = [_joined([known[name] for known in held]) for name in judged]
    rows = []
    for plan in plans:
        if plan is None:
            assert ranges is not None
            assert observed.activations is not None
            changed, room = quantized_around(model, layer, ranges, observed.activations), None
            rows.append(Row(layer, plan, _compared(changed, judged, samples, reference), room))
            continue
        changed, made = held_weights(model, layer, plan, observed)
        room = of_integers(made) if made is not None else of_constants(changed, layer)
        cut, _ = behind(changed, [layer])
        rows.append(Row(layer, plan, _compared(cut, judged, entering, reference), room))
    return rows


def _compared(model: ir.Model, judged: Sequence[str], feeds: Sequence[Feeds], reference: Sequence[Array]) -> Change:
    """Run a changed model, or the part of it behind a layer, and compare; outputs that it lacks did not change."""
    present = {value.name for node in model.graph for value in node.outputs}
    names = [f"{name}_dequantized" if f"{name}_dequantized" in present else name for name in judged]
    kept = [name for name in names if name in present]
    evaluator = Evaluator(model, kept)
    results = [evaluator.run({name: each[name] for name in evaluator.inputs}) for each in feeds]
    outputs = [
        _joined([found[name] for found in results]) if name in kept else own
        for name, own in zip(names, reference, strict=True)
    ]
    return compare(reference, outputs)


def _joined(arrays: Sequence[Array]) -> Array:
    if arrays[0].ndim == 0 or len({array.shape[1:] for array in arrays}) > 1:
        return np.concatenate([array.reshape(-1) for array in arrays])
    return np.concatenate(arrays)


@dataclass
class _Store:
    """Rows in a file, one line each; a line that was cut off is left out."""

    path: Path | None
    rows: dict[tuple[str, LayerPlan | None], Row] = field(default_factory=dict)

    @classmethod
    def open(
        cls, folder: Path | None, model: ir.Model, samples: Sequence[Feeds], observed: Observed, ranges: Plan | None
    ) -> _Store:
        if folder is None:
            return cls(None)
        path = folder / f"sensitivity-{_key(model, samples, observed, ranges)}.jsonl"
        store = cls(path)
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = _decoded(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue
                store.rows[row.layer, row.plan] = row
        return store

    def write(self, rows: Sequence[Row]) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            broken = end and file.read(1) != b"\n"  # a line that was cut off ends here, so that the next is whole
            file.write((b"\n" if broken else b"") + b"".join(json.dumps(asdict(row)).encode() + b"\n" for row in rows))


def _decoded(row: dict[str, object]) -> Row:
    plan, room = row["plan"], row["room"]
    return Row(
        str(row["layer"]),
        None if plan is None else LayerPlan(**plan),  # type: ignore[arg-type]
        Change(**row["change"]),  # type: ignore[arg-type]
        None if room is None else Room(**room),  # type: ignore[arg-type]
    )


FORM = 1
"""Of the file, and of what its numbers mean: raised when either changes."""


def _key(model: ir.Model, samples: Sequence[Feeds], observed: Observed, ranges: Plan | None) -> str:
    """What the rows depend on: the graph, its weights, the samples, and what calibration saw."""
    import onnxruntime

    digest = hashlib.sha256(f"{FORM} {onnxruntime.__version__} {np.__version__}".encode())
    digest.update(repr(None if ranges is None else (ranges.arithmetic, ranges.ranges, ranges.methods)).encode())
    for node in model.graph.all_nodes():
        digest.update(f"{node.name} {node.op_type} {[v and v.name for v in node.inputs]}".encode())
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            digest.update(name.encode() + np.ascontiguousarray(value.const_value.numpy()).tobytes())
    for feeds in samples:
        for name, array in feeds.items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    for name, moment in observed.weights.moments.items():
        digest.update(name.encode() + np.ascontiguousarray(moment).tobytes())
    return digest.hexdigest()[:24]
