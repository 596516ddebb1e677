"""The labelling found costs what the objective's true minimum is: by trying all, and by an integer programme."""

from __future__ import annotations

import itertools
import os
from typing import Any

import layout_sketches as sketches
import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from onnx import shape_inference

from haversack.convert.targets.tflite.layout import assign
from haversack.convert.targets.tflite.layout_blocks import Slot
from haversack.convert.targets.tflite.layout_frames import Frames
from haversack.convert.targets.tflite.layout_labels import Labels
from haversack.convert.targets.tflite.layout_rules import Transposes
from haversack.convert.targets.tflite.mincut import SINK, SOURCE

DEPTH = int(os.environ.get("HAVERSACK_LAYOUT_EXAMPLES", "1"))
"""How many times as many examples as usual: a deep run is `HAVERSACK_LAYOUT_EXAMPLES=50 pytest tests/tflite/...`."""


class Objective:
    """The objective as `layout`'s docstring states it, without the network that the implementation makes of it.

    Attributes:
        variables: The free terms.
        tensors: For each tensor its weight, the term it is made in and those it is read in.
        transposes: For each Transpose its two terms and its weight by the states of both.
    """

    def __init__(self, labels: Labels):
        self.tensors: list[tuple[int, int, list[int]]] = []
        self.transposes: list[tuple[int, int, list[list[int]]]] = []
        for value in labels.frames.frames:
            weight = labels.weights.between(value, *labels.frames.frame(value))
            self.tensors.append((weight, labels.produced(value), labels.readers(value)))
        for node, kind in labels.frames.kinds.items():
            if isinstance(kind, Transposes):
                terms = [labels.of(node, Slot(output, 0)) for output in (False, True)]
                cost = [[labels.transpose_cost(node, kind, i, o) for o in (0, 1)] for i in (0, 1)]
                self.transposes.append((terms[0], terms[1], cost))
        terms = {term for _, made, readers in self.tensors for term in (made, *readers)}
        terms |= {term for read, written, _ in self.transposes for term in (read, written)}
        self.variables = sorted(terms - {SOURCE, SINK})

    def of(self, state: Any) -> int:
        """What a labelling costs, by state of each term."""
        total = sum(weight for weight, made, readers in self.tensors if any(state[t] != state[made] for t in readers))
        return total + sum(cost[state[read]][state[written]] for read, written, cost in self.transposes)

    def least_of_all(self) -> int:
        """The minimum, by trying every labelling."""
        choices = itertools.product((0, 1), repeat=len(self.variables))
        return min(self.of({SOURCE: 1, SINK: 0, **dict(zip(self.variables, c, strict=True))}) for c in choices)

    def least_by_programme(self) -> int:
        """The minimum, by SciPy's HiGHS: a 0/1 programme with one variable a term, a tensor, and a pair of states."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        place = {SOURCE: 0, SINK: 1, **{term: number for number, term in enumerate(self.variables, 2)}}
        costs, rows, limits = [0.0] * len(place), [], []

        def at_least(terms: dict[int, int], limit: int) -> None:
            rows.append(terms)
            limits.append(limit)

        for weight, made, readers in self.tensors:
            costs.append(weight)
            for term in readers:  # paid ≥ |made - read|
                for sign in (1, -1):
                    at_least({len(costs) - 1: 1, **_sum((place[made], sign), (place[term], -sign))}, 0)
        for read, written, cost in self.transposes:
            for i, o in itertools.product((0, 1), repeat=2):  # chosen ≥ [read = i] + [written = o] - 1
                costs.append(cost[i][o])
                signs = (place[read], -1 if i else 1), (place[written], -1 if o else 1)
                at_least({len(costs) - 1: 1, **_sum(*signs)}, 1 - i - o)
        if not rows:
            return 0
        entries = [(factor, number, column) for number, row in enumerate(rows) for column, factor in row.items()]
        factors, lines, columns = zip(*entries, strict=True)
        matrix = csr_array((factors, (lines, columns)), shape=(len(rows), len(costs)))
        low, high = np.zeros(len(costs)), np.ones(len(costs))
        low[0], high[1] = 1, 0
        found = milp(
            costs,
            integrality=np.ones(len(costs)),
            bounds=Bounds(low, high),
            constraints=LinearConstraint(matrix, lb=np.array(limits, float)),
            options={"mip_rel_gap": 0.0},
        )
        assert found.success, found.message
        state = {term: round(found.x[number]) for term, number in place.items()}
        return self.of(state)


def _sum(*terms: tuple[int, int]) -> dict[int, int]:
    """A sum of signed variables; one that occurs twice is added up."""
    total: dict[int, int] = {}
    for variable, sign in terms:
        total[variable] = total.get(variable, 0) + sign
    return total


def problem(model: onnx.ModelProto, io_layout: str) -> tuple[Labels, Objective]:
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph = ir.from_proto(inferred).graph
    labels = Labels(graph, Frames(graph), io_layout == "channels-last")
    return labels, Objective(labels)


def solved(labels: Labels, objective: Objective) -> int:
    sides = labels.solve()[1]
    return objective.of({SOURCE: 1, SINK: 0} | {term: int(sides[term]) for term in objective.variables})


@given(sketches.sketches(), st.sampled_from(["keep", "channels-last"]))
@settings(max_examples=40 * DEPTH, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_labelling_of_a_small_graph_costs_less(case: tuple[Any, list[str]], io_layout: str) -> None:
    sketch, outputs = case
    assume(outputs)
    model = sketch.model(outputs)
    note(onnx.printer.to_text(model))
    labels, objective = problem(model, io_layout)
    assume(objective.tensors and len(objective.variables) <= 10)
    assert solved(labels, objective) == objective.least_of_all()


@given(sketches.crossroads(), st.sampled_from(["keep", "channels-last"]))
@settings(max_examples=25 * DEPTH, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_labelling_of_a_larger_graph_costs_less(case: tuple[Any, list[str]], io_layout: str) -> None:
    """Graphs of up to 50 operators full of Transposes, against an integer programme; and the bytes are the cost's."""
    sketch, outputs = case
    model = sketch.model(outputs)
    note(onnx.printer.to_text(model))
    labels, objective = problem(model, io_layout)
    least = objective.least_by_programme()
    assert solved(labels, objective) == least
    hub = ir.from_proto(shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    assert assign(hub, io_layout).bytes == least // labels.weights.base**2  # type: ignore[arg-type]
