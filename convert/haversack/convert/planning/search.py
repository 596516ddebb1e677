"""The search for a plan: choose, build, execute, tighten, until what is measured keeps the budget.

A plan is chosen on calibration data: the least bytes whose layers' costs (`sensitivity.py`) add up to at most a bound.
What the bound stands for in accuracy is not known beforehand, so the plan is built, the compressed model is executed
on the evaluation data, and the bound is moved by what that measured. Labels are looked at here and only so: whether a
plan as a whole stays within the budget, never which layer gets what.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from haversack.convert.budget import Budget
from haversack.convert.compress.methods import DEFAULT
from haversack.convert.compress.mixed import Observed, apply_plan
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.measured import Accuracy
from haversack.convert.planning.candidates import Family
from haversack.convert.planning.knapsack import InfeasibleError, choose
from haversack.convert.planning.sensitivity import Sensitivity
from haversack.convert.verify.compare import noise
from haversack.convert.verify.execute import Progress, run_all
from haversack.convert.verify.reference import Reference
from haversack.convert.work import Work
from haversack.runtimes.engines import Array

LOOSE, TIGHT = 1.0, 1e-4
"""Bounds on the sum of costs (nats of divergence, or noise over signal) between which the search moves: at one nothing
is left of a model, at the other nothing can be seen."""

DEFAULT_DROP = 1.0
"""Points that a plan may lose where the user has not said."""

SAFE, START = 0.01, 0.03
"""The first bounds that are tried: of the first there is a plan that one can be sure of, whatever others come to."""

ROUNDS = 7
"""Plans of a family that are built and executed at most."""

WORTH = 0.01
"""A plan that is smaller by less than this share than another is not worth a try of its own."""


@dataclass(frozen=True)
class Tried:
    """One plan, built and executed as a compressed model.

    Attributes:
        plan: The plan.
        bound: That its layers' costs were kept to.
        cost: What they add up to.
        room: Bytes of its layers, on disk or on the wire as its family counts.
        drop: Measured on evaluation data, in points (of agreement with the source, where there are no labels) or the
            metric's own unit.
        worst: The bound of its 95 % interval; infinite where there is none.
        accuracy: Likewise in full; None where outputs are no class scores and no metric was named.
    """

    plan: Plan
    bound: float
    cost: float
    room: float
    drop: float
    worst: float
    accuracy: Accuracy | None

    def keeps(self, budget: Budget) -> bool:
        """Whether the drop is within the budget."""
        allowed = DEFAULT_DROP if budget.max_drop is None else budget.max_drop
        return (self.worst if budget.confident else self.drop) <= allowed + 1e-9


@dataclass(frozen=True)
class Ground:
    """What a search stands on.

    Attributes:
        work: The model.
        observed: What calibration data says of it.
        sensitivity: What its layers cost.
        reference: The source's outputs on the samples that plans are executed on.
    """

    work: Work
    observed: Observed
    sensitivity: Sensitivity
    reference: Reference


def search(ground: Ground, family: Family, budget: Budget, progress: Progress, rounds: int = ROUNDS) -> list[Tried]:
    """Find the smallest plans of a family that lose at most so much.

    The bound is doubled or halved until it has a plan within the budget on one side and one beyond it on the other;
    then the gap is halved.

    Args:
        ground: The model and what is known of it.
        family: What its plans are for.
        budget: Whose drop plans have to keep, as measured on evaluation data.
        progress: Told how far it is.
        rounds: Plans that are built at most.

    Returns:
        Everything that was tried, the smallest first.
    """
    tried: dict[tuple[tuple[str, LayerPlan], ...], Tried] = {}
    good, bad = 0.0, math.inf
    bound = SAFE
    for count in range(rounds):
        progress(count / rounds, f"planning for {family.name}: plan {count + 1} of at most {rounds}")
        try:
            plan = plan_within(ground.sensitivity, family, bound, ground.work.source.sha256)
        except InfeasibleError:  # even the finest candidates cost more
            bound = _least(ground.sensitivity) * 1.000001
            if bound >= bad:
                break
            plan = plan_within(ground.sensitivity, family, bound, ground.work.source.sha256)
        key = tuple(plan.layers.items())
        if key not in tried:
            tried[key] = execute(ground, family, plan, bound)
        if tried[key].keeps(budget):
            good = max(good, bound)
        else:
            bad = min(bad, bound)
        if good and bad < math.inf:
            if bad / good < 1.15:
                break
            bound = math.sqrt(good * bad)
        elif good:
            bound = START if good < START else good * 2
        else:
            bound = bad / 3
        if not TIGHT <= bound <= LOOSE:
            break
    return sorted(tried.values(), key=lambda each: each.room)


def plan_within(sensitivity: Sensitivity, family: Family, bound: float, model: str) -> Plan:
    """The smallest plan whose layers' costs add up to at most a bound.

    Layers that could compute in integers stay float only where the bound cannot be kept otherwise: a float layer among
    integer ones costs time at both of its ends.

    Raises:
        InfeasibleError: There is none.
    """
    try:
        return _solved(sensitivity, family, model, bound=bound, floats=False)
    except InfeasibleError:
        return _solved(sensitivity, family, model, bound=bound)


def plan_in_room(sensitivity: Sensitivity, family: Family, room: float, model: str) -> Plan:
    """The plan that costs least among those whose layers take at most so many bytes.

    Raises:
        InfeasibleError: There is none.
    """
    return _solved(sensitivity, family, model, room=room)


def _solved(
    sensitivity: Sensitivity,
    family: Family,
    model: str,
    *,
    bound: float | None = None,
    room: float | None = None,
    floats: bool = True,
) -> Plan:
    """The least bytes within a bound of the costs, or the least cost within a room."""
    layers = {}
    for name, rows in sensitivity.rows.items():
        plans = [plan for plan in rows if plan is not None]
        integer = [plan for plan in plans if plan.integer]
        layers[name] = plans if floats or not integer else integer
    rooms = [[_room(sensitivity, family, name, plan) for plan in plans] for name, plans in layers.items()]
    costs = [[sensitivity.cost(name, plan) for plan in plans] for name, plans in layers.items()]
    if bound is not None:
        indices = choose(rooms, costs, bound)
    else:
        assert room is not None
        indices = choose(costs, rooms, room)
    chosen = {name: plans[index] for (name, plans), index in zip(layers.items(), indices, strict=True)}
    return _planned(family, chosen, sensitivity, model)


def _planned(family: Family, chosen: dict[str, LayerPlan], sensitivity: Sensitivity, model: str) -> Plan:
    rooms = [sensitivity.rows[name][layer].room for name, layer in chosen.items()]
    parameters = sum(room.parameters for room in rooms if room is not None)
    bits = 8 * sum(_room(sensitivity, family, name, layer) for name, layer in chosen.items()) / max(parameters, 1)
    name = f"{family.name}{bits:.2f}"
    default = LayerPlan("int8") if family.layers else LayerPlan("float16")
    return Plan(
        name, model, family.arithmetic, methods=DEFAULT if family.layers else (), default=default, layers=chosen
    )


def _room(sensitivity: Sensitivity, family: Family, name: str, plan: LayerPlan) -> float:
    room = sensitivity.rows[name][plan].room
    assert room is not None
    return room.wire if family.counts == "wire" else room.disk


def _least(sensitivity: Sensitivity) -> float:
    """The least that all layers can cost together."""
    return sum(
        min(sensitivity.cost(name, plan) for plan in rows if plan is not None)
        for name, rows in sensitivity.rows.items()
    )


def execute(ground: Ground, family: Family, plan: Plan, bound: float) -> Tried:
    """Build the compressed model of a plan and execute it on the reference's samples."""
    model, _, _ = apply_plan(ground.work.sized, plan, ground.observed)
    reference = ground.reference
    outputs = run_all(Evaluator(model).run, reference.samples)
    measured = reference.measured(outputs)
    drop = _noise(reference, outputs) if measured is None else measured.drop
    room = sum(_room(ground.sensitivity, family, name, layer) for name, layer in plan.layers.items())
    cost = ground.sensitivity.total(plan.layers)
    worst = math.inf if measured is None else measured.drop_bound
    return Tried(plan, bound, cost, room, drop, worst, measured)


def _noise(reference: Reference, outputs: dict[str, Array]) -> float:
    """Without class scores: noise as hundredths of the signal, of the worst output."""
    own = noise(reference.source, outputs)
    power = {name: float((value.astype(float) ** 2).sum()) for name, value in reference.source.items()}
    return max((100 * own[name] / power[name] if power[name] else 0.0) for name in own)


def worth_making(tried: list[Tried], budget: Budget, most: int = 4) -> Iterator[Tried]:
    """Of what was tried, what is worth an artifact: from the smallest within the budget to the most certain.

    The smallest plan that kept the budget did so by some luck, the more the fewer samples there are: finer ones are
    made beside it, evenly spread. Where nothing keeps the budget, the most accurate one is made.

    Args:
        tried: The smallest first.
        budget: Whose drop they have to keep.
        most: So many at most.
    """
    kept: list[Tried] = []
    for each in tried:
        if each.keeps(budget) and (not kept or each.room > kept[-1].room * (1 + WORTH)):
            kept.append(each)
    if not kept and tried:
        kept = [min(tried, key=lambda each: each.drop)]
    count = min(most, len(kept))
    places = [round(step * (len(kept) - 1) / max(1, count - 1)) for step in range(count)]
    yield from (kept[place] for place in dict.fromkeys(places))


def renamed(tried: list[Tried], taken: set[str]) -> list[Tried]:
    """The same with names that no other variant has."""
    made = []
    for each in tried:
        name, count = each.plan.name, 1
        while name in taken:
            count += 1
            name = f"{each.plan.name}-{count}"
        taken.add(name)
        made.append(dataclasses.replace(each, plan=dataclasses.replace(each.plan, name=name)))
    return made
