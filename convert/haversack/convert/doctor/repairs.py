"""Repairs that may help, the cheapest first: each is a change of a plan, so that what helps can be built and delivered.

| rank | repair                                                     | costs                                    |
|------|------------------------------------------------------------|------------------------------------------|
| 0    | one scale a channel for weights                            | four bytes a channel                     |
| 0    | cross-layer equalisation, second-order or learned          | nothing: other weights and biases        |
|      | rounding, bias correction (`compress/methods`)             |                                          |
| 0    | another rule for a tensor's range, or for all              | nothing                                  |
| 1    | an operator without weights in floats (a concat, of which  | two conversions at run time              |
|      | each input then has its own scale)                         |                                          |
| 2    | a layer, or all that touch a tensor, in float16            | a second byte a weight, float arithmetic |
| 3    | int16 activations                                          | 30 to 40 times slower on a CPU           |

Which are worth a try is read from the causes; what they are worth is measured (`trials.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from haversack.convert.compress import operators
from haversack.convert.compress.methods import ALTERNATIVES, DEFAULT
from haversack.convert.compress.mixed import planned_layers
from haversack.convert.compress.plan import RULES, LayerPlan, Plan
from haversack.convert.compress.recipes import HALF, STORAGES, Recipe
from haversack.convert.diagnosis import Cause
from haversack.convert.doctor.chart import Chart

FREE, OPERATOR, LAYER, WIDE = range(4)
"""Ranks: what a repair costs at run time."""

SPEED = {
    FREE: "",
    OPERATOR: "a float operator between int8 ones",
    LAYER: "slower than int8",
    WIDE: "30 to 40 times slower on a CPU in LiteRT",
}

METHODS = {
    "equalize": "cross-layer equalisation",
    "second-order": "second-order rounding of the weights",
    "adaround": "learned rounding of the weights",
    "bias-correction": "bias correction",
}
"""Methods that are tried where a recipe does not have them."""

MOST_LAYERS, SMALL = 8, 40
"""So many layers are tried in floats where the model has at most that many."""

MOST = 4
"""Causes that repairs are made for; what costs less than the fourth is not what ruins a model."""

Change = Callable[[Plan], Plan]


@dataclass(frozen=True)
class Remedy:
    """A repair that may help.

    Attributes:
        words: What it does.
        rank: What it costs at run time.
        change: Of the plan.
    """

    words: str
    rank: int
    change: Change


def first_plan(recipe: Recipe, chart: Chart, sha256: str) -> Plan | None:
    """The plan that says what a recipe does; None where a plan cannot say it."""
    if recipe.plan is not None:
        return dataclasses.replace(recipe.plan, name="repaired", model=sha256)
    base = recipe.name.removesuffix(HALF)
    if base == "int8":
        layers = [each for each in chart.exam.layers if operators.kind(each.node) == "weighted"]
        tensor = bool(layers) and all(each.held.channels == 1 for each in layers)
        kept = LayerPlan("int8", granularity="per-tensor" if tensor else "per-channel")
        return Plan("repaired", sha256, "int8", recipe.ranges, methods_of(recipe), default=kept)
    if base in ("int8-weights", *STORAGES):
        arithmetic = "float16" if recipe.name.endswith(HALF) else "float32"
        return Plan("repaired", sha256, arithmetic, default=LayerPlan(base))  # type: ignore[arg-type]
    return None


def methods_of(recipe: Recipe) -> tuple[str, ...]:
    """What a recipe does beyond rounding to the nearest."""
    if recipe.plan is not None:
        return recipe.plan.methods
    return (DEFAULT if recipe.methods is None else recipe.methods) if recipe.name == "int8" else ()


def remedies(chart: Chart, causes: Sequence[Cause], plan: Plan, refused: Collection[int] = ()) -> list[Remedy]:
    """What is worth a try for these causes, the cheapest first.

    Args:
        chart: Of the model.
        causes: The costliest first.
        plan: That the repairs change.
        refused: Ranks that the target cannot have.
    """
    integer = plan.arithmetic in ("int8", "int16")
    found: list[Remedy] = []
    if integer:
        found += _for_integers(chart, causes, plan)
    found += _for_layers(chart, causes, plan)
    if plan.arithmetic == "int8":
        found.append(Remedy("int16 activations", WIDE, lambda plan: dataclasses.replace(plan, arithmetic="int16")))
    unique = {each.words: each for each in found if each.rank not in refused}
    return sorted(unique.values(), key=lambda each: each.rank)


def _for_integers(chart: Chart, causes: Sequence[Cause], plan: Plan) -> list[Remedy]:
    found = []
    rows = [cause.where for cause in causes if cause.kind == "outlier channel of the weights"]
    if rows or plan.default.granularity == "per-tensor":
        per_channel = LayerPlan("int8", granularity="per-channel")
        layers = [name for name in rows if name in planned_layers(chart.exam.model)]
        if layers:
            found.append(
                Remedy(f"one scale a channel for the weights of {listed(layers)}", FREE, held(layers, per_channel))
            )
        found.append(
            Remedy(
                "one scale a channel for all weights", FREE, lambda plan: dataclasses.replace(plan, default=per_channel)
            )
        )
    found += [Remedy(words, FREE, method(name)) for name, words in METHODS.items() if name not in plan.methods]
    for rule in RULES:
        if rule != plan.ranges:
            found.append(Remedy(f"{rule} ranges for all tensors", FREE, ranges(rule)))
    for cause in [cause for cause in causes if cause.nodes][:MOST]:
        look = next(
            (each for each in chart.exam.groups if cause.where in each.names or _joined(chart, cause, each.names)), None
        )
        if look is None:
            continue
        if look.group.fixed is None:
            for rule in RULES:
                if rule != plan.ranges:
                    name = look.names[0] if cause.where not in look.names else cause.where
                    found.append(Remedy(f"{rule} range for {name}", FREE, tensor(name, rule)))
        joins = [str(node.name) for node in chart.joins(look)]
        if joins:
            found.append(
                Remedy(f"{listed(joins)} in float, each input with its own scale", OPERATOR, floats(joins, []))
            )
            outputs = {id(node.outputs[0]) for node in chart.joins(look)}
            readers = [
                node
                for node in chart.touching(look)
                if any(value is not None and id(value) in outputs for value in node.inputs)
            ]
            if readers:
                found.append(_floated(chart, [*chart.joins(look), *readers]))
        if len(cause.nodes) <= 8:
            found.append(_floated(chart, chart.touching(look)))
    return found


def _for_layers(chart: Chart, causes: Sequence[Cause], plan: Plan) -> list[Remedy]:
    """Layers in floats, or in eight bits: those that causes name, and those that cost most."""
    layers = planned_layers(chart.exam.model)
    named = [cause.where for cause in causes if cause.where in layers][:MOST]
    costs = {
        str(each.node.name): each.weights.loss + (0.0 if each.activations is None else each.activations.loss)
        for each in chart.exam.layers
        if str(each.node.name) in layers
    }
    worst = sorted(costs, key=lambda name: -costs[name])[: MOST_LAYERS if len(costs) <= SMALL else MOST]
    found = []
    if plan.arithmetic in ("float32", "float16") and plan.default.weights != "int8-weights":
        better = LayerPlan("int8-weights")
        found.append(
            Remedy("int8 weights for all layers", FREE, lambda plan: dataclasses.replace(plan, default=better))
        )
    for name in dict.fromkeys([*named, *worst]):
        if plan.arithmetic in ("float32", "float16") and plan.default.weights != "int8-weights":
            found.append(Remedy(f"{name} in int8 weights", FREE, held([name], LayerPlan("int8-weights"))))
        found.append(Remedy(f"{name} in float16", LAYER, held([name], LayerPlan("float16"))))
    return found


def _joined(chart: Chart, cause: Cause, names: Collection[str]) -> bool:
    """Whether a cause is named after the operator that joins a group."""
    return any(
        f"{node.name} ({node.op_type})" == cause.where and any(str(v.name) in names for v in node.outputs)
        for node in chart.exam.plan.nodes
    )


def _floated(chart: Chart, nodes: Iterable[ir.Node]) -> Remedy:
    layers = planned_layers(chart.exam.model)
    names = list(dict.fromkeys(str(node.name) for node in nodes))
    weighted = [name for name in names if name in layers]
    others = [name for name in names if name not in layers]
    return Remedy(f"{listed(names)} in float", LAYER if weighted else OPERATOR, floats(others, weighted))


def listed(names: Sequence[str]) -> str:
    """Names for a sentence: the first three, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def held(layers: Sequence[str], as_: LayerPlan) -> Change:
    """Hold some layers otherwise."""
    return lambda plan: dataclasses.replace(plan, layers={**plan.layers, **dict.fromkeys(layers, as_)})


def floats(operators: Sequence[str], layers: Sequence[str]) -> Change:
    """Keep operators, and layers, in floats."""

    def change(plan: Plan) -> Plan:
        kept = tuple(dict.fromkeys([*plan.floats, *operators]))
        return held(layers, LayerPlan("float16"))(dataclasses.replace(plan, floats=kept))

    return change


def method(name: str) -> Change:
    """Add one of a plan's methods, in the place of its alternative."""
    instead = {each for pair in ALTERNATIVES if name in pair for each in pair}
    return lambda plan: dataclasses.replace(
        plan, methods=(*(each for each in plan.methods if each not in instead and each != name), name)
    )


def ranges(rule: str) -> Change:
    """Choose all ranges otherwise."""
    return lambda plan: dataclasses.replace(plan, ranges=rule)  # type: ignore[arg-type]


def tensor(name: str, rule: str) -> Change:
    """Choose one range otherwise."""
    return lambda plan: dataclasses.replace(plan, tensors={**plan.tensors, name: rule})  # type: ignore[dict-item]
