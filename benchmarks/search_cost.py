"""What the search for a plan costs, stage by stage, as layers and samples grow.

    python -m benchmarks.search_cost
    python -m benchmarks.search_cost --write docs/results.md   put the table between the file's `search-cost` marks

MobileNetV2 of 224 x 224 with random weights and statistics, cut off after more and more of its layers, and more and
more seeded samples. Measured are the stages that grow: looking at calibration data, each layer in each precision of
the family `wire`, the knapsack, and building one plan. Accuracy means nothing on random weights, so nothing is judged.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from benchmarks.fresh_process import mobilenet_v2
from benchmarks.marks import write_between_marks
from haversack.convert.compress.mixed import apply_plan, observe_model, planned_layers
from haversack.convert.compress.plan import Plan
from haversack.convert.planning.candidates import FAMILIES, candidates
from haversack.convert.planning.search import plan_within
from haversack.convert.planning.sensitivity import measure
from haversack.convert.work import Work

SIZES = ((13, 16), (26, 16), (52, 16), (52, 32))
"""(layers, samples)."""


def first_layers(model: ir.Model, count: int) -> ir.Model:
    """The model up to its `count`-th layer, whose output is averaged over places so that it has one row a sample."""
    copy = model.clone()
    last = list(planned_layers(copy).values())[min(count, len(planned_layers(copy))) - 1]
    if last.outputs[0] not in copy.graph.outputs and len(last.outputs[0].shape or ()) == 4:
        value = last.outputs[0]
        shape = ir.Shape([value.shape[0], value.shape[1], 1, 1])  # type: ignore[index]
        pooled = ir.Value(name="pooled", type=value.type, shape=shape)
        copy.graph.insert_after(last, [ir.Node("", "GlobalAveragePool", [value], outputs=[pooled], name="pool")])
        copy.graph.outputs[:] = [pooled]
        RemoveUnusedNodesPass()(copy)
    return copy


def row(model: ir.Model, layers: int, count: int) -> str:
    """One line of the table."""
    part = first_layers(model, layers)
    (entry,) = part.graph.inputs
    random = np.random.default_rng(0)
    shape = [int(size) for size in entry.shape.numpy()]  # type: ignore[union-attr]
    samples = [{str(entry.name): random.normal(size=shape).astype(np.float32)} for _ in range(count)]
    family = FAMILIES["wire"]
    marks = [time.perf_counter()]
    observed = observe_model(part, lambda: iter(samples))
    marks.append(time.perf_counter())
    wanted = candidates(part, family)
    found = measure(part, wanted, observed, samples, ranges=Plan("wire"))
    marks.append(time.perf_counter())
    plan = plan_within(found, family, 0.2, "")
    marks.append(time.perf_counter())
    apply_plan(part, plan, observed)
    marks.append(time.perf_counter())
    runs = count * sum(len(plans) + 1 for plans in wanted.values())
    taken = " | ".join(f"{after - before:.1f}" for before, after in itertools.pairwise(marks))
    return f"| {len(wanted)} | {count} | {runs:,} | {taken} |"


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    lines = [
        "| layers | samples | runs | calibrating, s | measuring layers, s | knapsack, s | building a plan, s |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        model = Work.begin(mobilenet_v2(Path(folder))).sized
    for layers, count in SIZES:
        lines.append(row(model, layers, count))
        print(lines[-1], flush=True)
    if arguments.write:
        write_between_marks(arguments.write, "\n".join(lines) + "\n", "search-cost")


if __name__ == "__main__":
    main()
