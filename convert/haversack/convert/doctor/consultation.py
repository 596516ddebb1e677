"""The consultation, stage by stage: compress, examine, name causes, try repairs, judge them, prescribe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.groups import quantization
from haversack.convert.compress.methods import apply
from haversack.convert.compress.mixed import EQUALIZE, Observed, apply_plan
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.compress.recipes import Recipe
from haversack.convert.compress.unpacking import unpack_weights
from haversack.convert.diagnosis import Cause, Diagnosis, Harm, Trial, tolerated
from haversack.convert.doctor import causes as why
from haversack.convert.doctor import data_causes, half, told, weight_causes
from haversack.convert.doctor.chart import Chart
from haversack.convert.doctor.examine import Examination, examine, samples_for
from haversack.convert.doctor.harm import Bench, compared
from haversack.convert.doctor.repairs import SPEED, WIDE, Remedy, first_plan, methods_of, remedies
from haversack.convert.doctor.signs import layer_signs, tensor_signs
from haversack.convert.doctor.spreads import merged, spreads
from haversack.convert.doctor.trials import Trials, Tried, constant_bytes
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.measured import Accuracy
from haversack.convert.pipeline import STATIC_TARGETS, make, part
from haversack.convert.publish import private_folder
from haversack.convert.report import Variant
from haversack.convert.targets import Options, open_target
from haversack.convert.verify.execute import Progress, Samples, run_all, silent
from haversack.convert.verify.reference import Reference
from haversack.convert.work import Work
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError

LOOKED_AT = 512
"""Samples of each set whose activations are looked at channel by channel, evenly spread."""

PROPOSALS = 4
"""Repairs that are judged on evaluation data at most."""

CAUSES = 6
"""Causes that are told."""


@dataclass
class Consultation:
    """One model with one recipe.

    Attributes:
        work: The model, with calibration data.
        recipe: Which compression.
        samples: What the whole is judged on.
        evaluated: Whether those are evaluation data.
        allowed: Points that may be lost.
        notes: For the report.
        to: The target's name; None where no artifact is asked for.
        artifacts: What was delivered for it.
    """

    work: Work
    recipe: Recipe
    samples: Samples
    evaluated: bool
    allowed: float
    notes: list[str]
    to: str | None
    artifacts: list[Variant] = field(default_factory=list)

    def run(self, say: Progress) -> Diagnosis:
        """All stages."""
        say(0.03, "running the source")
        reference = self.work.reference(self.samples, part(say, 0.03, 0.1))
        self.notes += reference.notes
        bench = Bench(self.work.sized, self._spread(samples_for(self.work.sized)))
        compressed = self._compressed(part(say, 0.1, 0.2))
        outputs = run_all(Evaluator(compressed).run, self.samples, part(say, 0.2, 0.25), f"running {self.recipe.name}")
        before = reference.measured(outputs)
        chart = self._chart(compressed, bench, part(say, 0.25, 0.6))
        judged_harm = chart.harm_apart or chart.exam.harm
        healthy = self._within(before, judged_harm)
        found = [] if healthy else self._causes(chart)
        diagnosis = Diagnosis(
            model=self.work.facts(),
            compression=self.recipe.name,
            healthy=healthy,
            repaired=False,
            verdict="",
            allowed=self.allowed,
            harm=chart.exam.harm,
            before=before,
            measured_on=self._said(),
            causes=tuple(found[:CAUSES]),
            layers=tuple(layer_signs(chart)),
            tensors=tuple(tensor_signs(chart)),
            notes=tuple(self.notes),
            floats=None if self.samples.labels is None else reference.measured(reference.source),
            samples=len(bench.samples),
        )
        if healthy:
            self._deliver(self.recipe, part(say, 0.6, 1.0))
            done = dataclasses.replace(diagnosis, artifacts=tuple(self.artifacts), notes=tuple(self.notes))
            return dataclasses.replace(done, verdict=told.verdict(done))
        labels = self.samples.labels
        diagnosis = dataclasses.replace(
            diagnosis, advice=tuple(data_causes.advice(chart, found, labels, self.samples.classes))
        )
        self._deliver(self.recipe, part(say, 0.6, 0.65))
        if self.recipe.name == "fp16":
            done = self._repair_half(diagnosis, chart, reference, found)
        else:
            done = self._repair(diagnosis, chart, reference, found, part(say, 0.65, 1.0))
        done = dataclasses.replace(done, artifacts=tuple(self.artifacts), notes=tuple(self.notes))
        say(1.0, "done")
        return dataclasses.replace(done, verdict=told.verdict(done))

    def _compressed(self, progress: Progress) -> ir.Model:
        if self.recipe.name == "fp16":
            self.notes.append(
                "float16 arithmetic is emulated: every value is rounded to float16, sums inside an operator are not"
            )
            return half.emulated(unpack_weights(self.work.sized))
        made = self.work.compressed(self.recipe, static=True, progress=progress)
        self.notes += made.notes
        return made.model

    def _chart(self, compressed: ir.Model, bench: Bench, progress: Progress) -> Chart:
        work = self.work
        floats = () if self.recipe.plan is None else self.recipe.plan.floats
        held = () if self.recipe.plan is None else tuple(n for n, e in self.recipe.plan.layers.items() if not e.integer)
        progress(0.0, "calibrating")
        done = methods_of(self.recipe)
        observed = work.observed(part(progress, 0.0, 0.2), equalized=EQUALIZE in done)
        model = apply.before(unpack_weights(work.sized), done)[0]  # what was compressed, channels rescaled
        if self.recipe.name == "fp16":
            exam = Examination(model, compressed, bench, bench.harm(compressed), quantization(model.graph))
        else:
            exam = examine(model, compressed, bench, observed.activations, part(progress, 0.2, 0.7), (*floats, *held))
        names = [str(value.name) for value in exam.plan.of if isinstance(value, ir.Value)]
        names = [name for name in dict.fromkeys(names) if name in {n for look in exam.groups for n in look.names}]
        if not exam.groups:
            names = [
                str(v.name) for node in model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT and v.name
            ]
        names += [str(v.name) for v in model.graph.inputs if str(v.name) not in names]
        names += [
            str(e.node.inputs[0].name)
            for e in exam.layers
            if e.node.inputs[0] is not None and str(e.node.inputs[0].name) not in names
        ]
        names += [n for n in self._requantized(exam) if n not in names]
        names = [name for name in dict.fromkeys(names) if name not in model.graph.initializers]
        looked = self._spread(LOOKED_AT)
        halves, _ = spreads(model, names, looked, part(progress, 0.7, 0.8), count=len(looked))
        chart = Chart(exam, observed.activations, (halves[0], halves[1]), samples=len(work.calibration or ()))
        chart.calibration = {name: merged(halves[0][name], halves[1][name]) for name in names}
        if self.evaluated:
            step = max(1, -(-len(self.samples) // LOOKED_AT))
            positions = range(0, len(self.samples), step)
            inputs = self.samples.pick(positions)
            both, beyond = spreads(
                model, names, inputs, part(progress, 0.8, 0.95), count=len(inputs), known=chart.calibration
            )
            chart.evaluation = {name: merged(both[0][name], both[1][name]) for name in names}
            chart.beyond = [dataclasses.replace(each, sample=positions[each.sample]) for each in beyond]
            chart.apart = Bench(work.sized, self.samples.spread(samples_for(model)))
            chart.harm_apart = chart.apart.harm(compressed)
        chart.squashed = self._squashed(bench, compressed)
        return chart

    def _requantized(self, exam: Examination) -> list[str]:
        return [str(node.inputs[index].name) for node, index in exam.plan.requantized]  # type: ignore[union-attr]

    def _squashed(self, bench: Bench, compressed: ir.Model) -> Harm | None:
        """What the outputs show as they are; None where they are not squashed."""
        ends = [str(value.name) for value in self.work.sized.graph.outputs]
        if ends == [each.name for each in bench.outputs]:
            return None
        found = []
        for graph in (self.work.sized, compressed):
            evaluator = Evaluator(graph)
            rows = [evaluator.run({name: feeds[name] for name in evaluator.inputs}) for feeds in bench.samples]
            found.append({name: np.concatenate([np.atleast_1d(row[name]) for row in rows]) for name in ends})
        return compared(*found)

    def _causes(self, chart: Chart) -> list[Cause]:
        if self.recipe.name == "fp16":
            both = dict(chart.calibration)
            if chart.evaluation is not None:
                both = {name: merged(both[name], chart.evaluation[name]) for name in both}
            found = half.half_causes(chart.exam.model, both, chart.apart or chart.exam.bench)
            return sorted(found, key=lambda each: -(each.loss or 0.0))
        measured = [
            *why.activation_causes(chart),
            *weight_causes.weight_causes(chart),
            *data_causes.dead_calibration(chart),
        ]
        measured.sort(key=lambda each: -(each.loss or 0.0))
        measured = weight_causes.with_readers(chart, measured)
        if not measured and (generic := why.adding_up(chart)) is not None:
            measured.append(generic)
        others = [*data_causes.never_excited(chart), data_causes.too_few_samples(chart), data_causes.masked(chart)]
        return _merged([*measured, *(each for each in others if each is not None)])

    def _repair(
        self, diagnosis: Diagnosis, chart: Chart, reference: Reference, found: Sequence[Cause], say: Progress
    ) -> Diagnosis:
        plan = first_plan(self.recipe, chart, self.work.source.sha256)
        if plan is None:
            self.notes.append(f"{self.recipe.name} has no plan, so that no repair could be tried")
            return diagnosis
        trials = Trials(self.work.sized, self._observed, chart.exam.bench, plan, self.allowed)
        refused = {WIDE} if self.to == "coreml" else set()
        candidates = remedies(chart, found, plan, refused)
        trials.alone(candidates, part(say, 0.0, 0.7))
        base = constant_bytes(chart.exam.compressed)
        judged: dict[str, Accuracy | None] = {}
        best: tuple[Tried, Accuracy | None, Harm] | None = None
        repaired = False
        for count, tried in enumerate(trials.proposals(part(say, 0.7, 0.85))):
            if count == PROPOSALS:
                break
            say(0.85 + 0.15 * count / PROPOSALS, f"judging {tried.words}")
            made = self._built(tried.plan)
            after = reference.measured(run_all(Evaluator(made).run, self.samples))
            harm = tried.harm if chart.apart is None else chart.apart.harm(made)
            assert harm is not None
            judged[tried.plan.to_json()] = after
            if best is None or _better(after, harm, best[1], best[2]):
                best = tried, after, harm
            if self._within(after, harm) and self._deliver(Recipe.of(tried.plan), silent):
                best, repaired = (tried, after, harm), True
                break
        if best is None:
            return dataclasses.replace(diagnosis, trials=_rows(trials.done, judged, base, None))
        tried, after, _ = best
        helps = repaired or _better(after, best[2], diagnosis.before, chart.harm_apart or chart.exam.harm)
        return dataclasses.replace(
            diagnosis,
            repaired=repaired,
            after=after if helps else None,
            trials=_rows(trials.done, judged, base, tried if helps else None),
            repair=tried.words if helps else "",
            plan=tried.plan.to_json() if helps else "",
        )

    def _built(self, plan: Plan) -> ir.Model:
        return apply_plan(self.work.sized, plan, self._observed(plan))[0]

    def _observed(self, plan: Plan) -> Observed:
        return self.work.observed(equalized=EQUALIZE in plan.methods)

    def _repair_half(
        self, diagnosis: Diagnosis, chart: Chart, reference: Reference, found: Sequence[Cause]
    ) -> Diagnosis:
        """Keep what overflows in float32; weights stay float16."""
        nodes = tuple(dict.fromkeys(name for cause in found for name in cause.nodes))
        plan = Plan("repaired", self.work.source.sha256, "float32", default=LayerPlan("float16"))
        remedy = Remedy(f"float32 arithmetic for {', '.join(nodes[:3]) or 'all'}", 1, lambda plan: plan)
        made = half.emulated(chart.exam.model, floats=self._closed(chart.exam.model, nodes))
        after = reference.measured(run_all(Evaluator(made).run, self.samples))
        harm = chart.exam.bench.harm(made)
        apart_ = harm if chart.apart is None else chart.apart.harm(made)
        repaired = self._within(after, apart_)
        self.notes.append(
            "TFLite and ONNX Runtime store float16 and compute in float32: they are not concerned. For Core ML convert "
            "keeps in float32 what overflows, by measurement"
        )
        trial = Trial(remedy.words, harm, 0, SPEED[1], after, repaired)
        return dataclasses.replace(
            diagnosis,
            repaired=repaired,
            after=after,
            trials=(trial,),
            repair=remedy.words if repaired else "",
            plan=plan.to_json() if repaired else "",
        )

    def _closed(self, model: ir.Model, nodes: Sequence[str]) -> set[str]:
        """The nodes, and the readers of what they give: a value that stays float32 is read so."""
        chosen = set(nodes)
        for node in model.graph:
            if str(node.name) in nodes:
                chosen |= {str(reader.name) for value in node.outputs for reader in value.consumers()}
        return chosen

    def _deliver(self, recipe: Recipe, progress: Progress) -> bool:
        """Make the artifact of the target that was asked for, execute it and keep what it measured.

        Returns:
            Whether it can be delivered; True where no target was asked for.
        """
        if self.to is None:
            return True
        target = open_target(self.to)
        progress(0.0, f"making {target.name} {recipe.name}")
        with private_folder() as private:
            try:
                compressed = self.work.compressed(recipe, static=target.name in STATIC_TARGETS)
                path = private / f"{self.work.source.name}{target.suffix}"
                made = make(self.work, target, recipe, compressed, path, Options(), self.samples, progress)
            except HaversackError as error:
                self.notes.insert(0, f"{target.name} {recipe.name} could not be delivered: {error}")
                return False
            finally:
                self.work.forget(recipe)
        self.artifacts.append(dataclasses.replace(made.variant, path=""))
        return True

    def _within(self, measured: Accuracy | None, harm: Harm) -> bool:
        """Whether what is lost is allowed."""
        if measured is not None:
            return measured.drop <= self.allowed + 1e-9
        return harm.loss <= self.allowed * tolerated(harm.unit) + 1e-12

    def _spread(self, count: int) -> list[dict[str, Array]]:
        data = self.work.calibration
        assert data is not None
        step = max(1, -(-len(data) // count))
        return [feeds for index, (feeds, _) in enumerate(data.batches(1)) if index % step == 0]

    def _said(self) -> str:
        kind = "evaluation" if self.evaluated else "calibration"
        labelled = "labelled " if self.samples.labels is not None else ""
        return f"{len(self.samples):,} {labelled}{kind} samples"


def _merged(found: Sequence[Cause]) -> list[Cause]:
    """One cause a place: what comes later at the same place is a further sign of the first."""
    made: dict[str, Cause] = {}
    for cause in found:
        if cause.where in made:
            first = made[cause.where]
            made[cause.where] = dataclasses.replace(first, also=(*first.also, f"{cause.kind}: {cause.evidence}"))
        else:
            made[cause.where] = cause
    return list(made.values())


def _better(new: Accuracy | None, new_harm: Harm, old: Accuracy | None, old_harm: Harm) -> bool:
    if new is not None and old is not None and new.drop != old.drop:
        return new.drop < old.drop
    return new_harm.loss < old_harm.loss


def _rows(
    done: Sequence[Tried], judged: Mapping[str, Accuracy | None], base: int, kept: Tried | None
) -> tuple[Trial, ...]:
    rows = {}
    for tried in done:
        rows[tried.words] = Trial(
            repair=tried.words,
            harm=tried.harm,
            bytes=tried.bytes - base if tried.harm is not None else 0,
            speed=SPEED[tried.price[0]],
            accuracy=judged.get(tried.plan.to_json()),
            kept=kept is not None and tried.words == kept.words,
            reason=tried.reason,
        )
    return tuple(rows.values())
