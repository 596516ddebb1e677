"""What `pack` asks: recipes that follow plans, for the targets and the budget of this model."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from haversack.convert import outcome
from haversack.convert.budget import Budget, judge
from haversack.convert.compress.plan import Plan
from haversack.convert.compress.recipes import Recipe
from haversack.convert.pipeline import part
from haversack.convert.planning import search
from haversack.convert.planning.candidates import FAMILIES, Family, candidates
from haversack.convert.planning.knapsack import InfeasibleError
from haversack.convert.planning.search import Ground, Tried
from haversack.convert.planning.sensitivity import SAMPLES, Sensitivity, measure
from haversack.convert.report import Variant
from haversack.convert.targets import open_target
from haversack.convert.verify.execute import Progress, Samples
from haversack.convert.verify.reference import Reference
from haversack.convert.work import Work

OBJECTIVES: dict[str | None, tuple[str, ...]] = {
    None: ("size", "wire", "weights"),
    "size": ("size", "weights"),
    "wire": ("wire", "weights"),
    "latency": ("wire",),
}
"""The families that are searched for each objective. Few different integers run as fast as int8 does."""

TARGETS: dict[str, tuple[str, ...]] = {
    "size": ("tflite", "onnx"),
    "wire": ("tflite", "onnx", "web"),
    "weights": ("coreml",),
}
"""The targets that each family's plans are made for."""

APART = 1.1
"""Rooms that are closer than this factor have no plan between them worth a try."""

EXECUTED = 5000
"""Samples, evenly spread, that each plan is executed on where a point estimate judges; artifacts see all of them."""


def missing_packages() -> tuple[str, ...]:
    """What the extra `search` would bring and is not installed."""
    return tuple(name for name in ("scipy", "joblib") if importlib.util.find_spec(name) is None)


@dataclass
class Stages:
    """What took how long.

    Attributes:
        seconds: By stage, in order.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of what is done inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass
class Planner:
    """Plans for one model.

    Attributes:
        work: The model, with calibration data.
        samples: What plans are executed on.
        budget: What the user can afford.
        store: A folder that keeps what was measured; None: nothing is kept.
        jobs: Processes at most.
        stages: Told what took how long.
        tried: By family, everything that was built and executed, the smallest first.
    """

    work: Work
    samples: Samples
    budget: Budget
    store: Path | None = None
    jobs: int | None = None
    stages: Stages = field(default_factory=Stages)
    tried: dict[str, list[Tried]] = field(default_factory=dict)
    _sensitivities: dict[str, Sensitivity] = field(default_factory=dict)
    _grounds: dict[str, Ground] = field(default_factory=dict)

    def plans(
        self, objective: str | None, targets: Sequence[str], progress: Progress
    ) -> list[tuple[Recipe, tuple[str, ...]]]:
        """Search every family that serves the objective on one of the targets.

        Returns:
            Recipes, each with the targets that it is for.
        """
        wanted = [FAMILIES[name] for name in OBJECTIVES[objective] if set(TARGETS[name]) & set(targets)]
        found: list[tuple[Recipe, tuple[str, ...]]] = []
        taken: set[str] = set()
        for index, family in enumerate(wanted):
            serves = tuple(target for target in TARGETS[family.name] if target in targets)
            ground = self._ground(family, serves, part(progress, index / len(wanted), (index + 0.5) / len(wanted)))
            with self.stages.timed(f"searching for {family.name}"):
                step = part(progress, (index + 0.5) / len(wanted), (index + 1) / len(wanted))
                tried = search.search(ground, family, self.budget, step)
            self.tried[family.name] = tried = search.renamed(tried, taken)
            found += [(Recipe.of(each.plan), serves) for each in search.worth_making(tried, self.budget)]
        return found

    def tighter(self, variants: Sequence[Variant], targets: Sequence[str]) -> list[tuple[Recipe, tuple[str, ...]]]:
        """Plans with half the cost, for targets of which every planned artifact lost more than allowed.

        An artifact's integers may differ from its compressed model's by a step, and plans are executed on fewer
        samples: what was just within the budget there may be just beyond it here.

        Args:
            variants: Everything that was made and measured.
            targets: All that are asked for.
        """
        found = []
        for family, rows in self.tried.items():
            names = {each.plan.name for each in rows}
            served = [target for target in TARGETS[family] if target in targets]
            missing = [
                target
                for target in served
                if not any(v.target == target and v.compression in names and self._kept(v) for v in variants)
            ]
            made = [v.compression for v in variants if v.target in missing and v.compression in names]
            if not made:
                continue
            bound = min(each.bound for each in rows if each.plan.name in made) / 2
            recipe = self._plan(family, bound) if bound >= search.TIGHT else None
            if recipe is not None:
                found.append((recipe, tuple(missing)))
        return found

    def between(
        self, variants: Sequence[Variant], targets: Sequence[str], failed: Collection[tuple[str, str]]
    ) -> list[tuple[Recipe, tuple[str, ...]]]:
        """Plans between one whose artifact a target could not deliver and the smallest that it could.

        A kernel may round further from the compressed model than its contract allows (LiteRT's int4 convolutions
        are not XNNPACK's); fewer layers in it may pass.

        Args:
            variants: Everything that was made and measured.
            targets: All that are asked for.
            failed: (target, plan) of artifacts that broke their contract.
        """
        found: list[tuple[Recipe, tuple[str, ...]]] = []
        for family, rows in self.tried.items():
            for target in (target for target in TARGETS[family] if target in targets):
                made = {v.compression for v in variants if v.target == target and self._kept(v)}
                bad = max((each.room for each in rows if (target, each.plan.name) in failed), default=None)
                good = min((each.room for each in rows if each.plan.name in made), default=None)
                if bad is None or good is None or good < bad * APART:
                    continue
                costs = self._grounds[family].sensitivity
                plan = search.plan_in_room(costs, FAMILIES[family], (bad * good) ** 0.5, self.work.source.sha256)
                recipe = self._executed(family, plan, costs.total(plan.layers))
                if recipe is not None:
                    found.append((recipe, (target,)))
        return found

    def _kept(self, variant: Variant) -> bool:
        if variant.accuracy is None or self.budget.max_drop is None:
            return True
        only_drop = Budget(max_drop=self.budget.max_drop, confident=self.budget.confident)
        return all(each.met for each in judge(variant, only_drop))

    def _plan(self, family: str, bound: float) -> Recipe | None:
        ground = self._grounds[family]
        try:
            plan = search.plan_within(ground.sensitivity, FAMILIES[family], bound, self.work.source.sha256)
        except InfeasibleError:
            return None
        return self._executed(family, plan, bound)

    def _executed(self, family: str, plan: Plan, bound: float) -> Recipe | None:
        """Execute a plan as the search does; None where that was done already."""
        ground = self._grounds[family]
        if any(each.plan.layers == plan.layers for each in self.tried[family]):
            return None
        made = search.execute(ground, FAMILIES[family], plan, bound)
        (made,) = search.renamed([made], {each.plan.name for rows in self.tried.values() for each in rows})
        self.tried[family] = sorted([made, *self.tried[family]], key=lambda each: each.room)
        return Recipe.of(made.plan)

    def report(self, made: Collection[str]) -> tuple[outcome.Tried, ...]:
        """What was executed, for the report; `made` names the plans of which there are artifacts."""
        return tuple(
            outcome.Tried(
                name=each.plan.name,
                family=family,
                bytes=round(each.room),
                cost=each.cost,
                drop=each.drop,
                samples=len(self._grounds[family].reference.samples),
                made=each.plan.name in made,
            )
            for family, rows in self.tried.items()
            for each in rows
        )

    def _ground(self, family: Family, serves: Sequence[str], progress: Progress) -> Ground:
        with self.stages.timed("calibrating"):
            observed = self.work.observed(part(progress, 0.0, 0.2))
        wanted = candidates(self.work.sized, family, [open_target(name) for name in serves])
        data = self.work.calibration
        assert data is not None
        with self.stages.timed(f"measuring layers for {family.name}"):
            sensitivity = measure(
                self.work.sized,
                wanted,
                observed,
                _spread(data.batches(1), len(data)),
                ranges=Plan(family.name, arithmetic=family.arithmetic) if family.layers else None,
                store=self.store,
                jobs=self.jobs,
                progress=part(progress, 0.2, 1.0),
            )
        with self.stages.timed("running the source"):
            reference = self.work.reference(self.samples)
        if not self.budget.confident:
            reference = _thinned(reference, EXECUTED)
        ground = Ground(self.work, observed, sensitivity, reference)
        self._grounds[family.name] = ground
        return ground


def _spread(batches: Iterator[tuple[dict[str, np.ndarray], object]], count: int) -> list[dict[str, np.ndarray]]:
    """At most `SAMPLES` of so many samples, evenly spread."""
    step = max(1, -(-count // SAMPLES))
    return [feeds for index, (feeds, _) in enumerate(batches) if index % step == 0]


def _thinned(reference: Reference, most: int) -> Reference:
    """The reference on evenly spread samples, where each sample has its own rows in every output."""
    samples = reference.samples
    step = -(-len(samples) // most)
    if step < 2 or any(len(value) != len(samples) for value in reference.source.values()):
        return reference
    chosen = slice(None, None, step)
    labels = None if samples.labels is None else samples.labels[chosen]
    fewer = dataclasses.replace(samples, feeds=samples.feeds[chosen], labels=labels)
    return dataclasses.replace(
        reference, samples=fewer, source={name: value[chosen] for name, value in reference.source.items()}
    )
