"""Executes one artifact and holds it to its recipe's contract."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import VerificationError
from haversack.convert.measured import REFERENCE_EVALUATED, Accuracy, LayerError, OutputError, Verification
from haversack.convert.targets import Layer, Options
from haversack.convert.verify.compare import changed, decibel, noise, output_errors
from haversack.convert.verify.contract import COMPRESSED, FLOAT32, Contract
from haversack.convert.verify.edges import Edges
from haversack.convert.verify.execute import Progress, Samples, run_all
from haversack.convert.verify.information import before_squashing
from haversack.convert.verify.native import compared, described, is_browser, sentences
from haversack.convert.verify.reference import Reference
from haversack.convert.verify.selection import paired
from haversack.runtimes.engines import Array, Engine, open_engine

LAYER_SAMPLES = 4
"""Each layer of an int8 artifact is judged on so many samples: every one holds thousands of roundings."""


@dataclass(frozen=True)
class Subject:
    """One artifact and what it was made from.

    Attributes:
        path: The artifact.
        target: Its target's name.
        compression: Its recipe in `RECIPES`.
        model: The compressed hub graph that it was lowered from.
        layers: The map from its operators to the graph.
        options: What it was made with.
        contract: What it promises.
        name: What it is called where that is not its recipe: a plan's name.
        engine: What executes it; None for the engine that its suffix names. A browser's is compared with that one too.
        folder: The folder that a browser executes in its place, where the artifact is the model in one.
    """

    path: Path
    target: str
    compression: str
    model: ir.Model
    layers: tuple[Layer, ...]
    options: Options
    contract: Contract
    name: str = ""
    engine: str | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Judged:
    """An artifact that keeps its contract.

    Attributes:
        verification: The numbers.
        accuracy: The metric beside the source's; None where there is nothing to measure.
        edges: The artifact, still open.
        outputs: What it gave, joined over all samples; rows of a selection that have no counterpart are left out.
    """

    verification: Verification
    accuracy: Accuracy | None
    edges: Edges
    outputs: dict[str, Array]


def judge(
    subject: Subject, reference: Reference, compressed: dict[str, Array] | None, progress: Progress | None = None
) -> Judged:
    """Execute an artifact on the reference's samples and compare.

    Args:
        subject: The artifact.
        reference: What the source computes.
        compressed: What the compressed hub graph computes, where the contract is against it.
        progress: Hears how far it is.

    Raises:
        VerificationError: It does not keep its contract; the first layer that diverges is named.
    """
    label = f"{subject.target} {subject.name or subject.compression}"
    executed = subject.folder if subject.folder is not None and is_browser(subject.engine) else subject.path
    engine = open_engine(executed, engine=subject.engine)
    label += f" ({REFERENCE_EVALUATED})" if engine.emulated else ""
    edges = Edges(engine, subject.model, subject.options)
    outputs = run_all(edges.run, reference.samples, progress, f"running {label}", edges.run_many)
    natively = _against_native(subject, edges, reference.samples, outputs) if is_browser(subject.engine) else ()
    whole, given = reference, outputs
    rows = paired(subject.model, reference.source, outputs, subject.contract)
    if rows.failure:
        raise VerificationError(f"{label}: {rows.failure}, over {len(reference.samples)} samples")
    reference, outputs = dataclasses.replace(reference, source=rows.source), rows.outputs
    for name, value in reference.source.items():
        if outputs[name].size != value.size:
            raise VerificationError(
                f"{label}: output {name} has {outputs[name].size} elements over all samples, {value.size} in the model"
            )
        outputs[name] = outputs[name].reshape(value.shape)
    against = compressed if subject.contract.against == COMPRESSED else reference.source
    assert against is not None
    errors = output_errors(against, outputs)
    to_source = output_errors(reference.source, outputs)
    failure = broken(subject.contract, reference, compressed, outputs, errors)
    notes, inside = ((), "") if failure else _mute(subject, edges, reference)
    failure = failure or inside
    judged: tuple[LayerError, ...] = ()
    if subject.contract.layers and subject.layers:
        from haversack.convert.verify.layers import judge_layers

        judged = judge_layers(subject, edges, reference.samples.spread(LAYER_SAMPLES), progress)
        bad = next((layer for layer in judged if layer.error > layer.limit), None)
        if bad is not None:
            raise VerificationError(
                f"{label}: layer {bad.name} ({bad.op}) is {bad.error:g} {bad.unit} from the model, "
                f"{bad.limit:g} allowed, when fed the model's own inputs"
            )
    if failure:
        from haversack.convert.verify.diverge import first_diverging

        where = first_diverging(subject, edges, reference.samples.spread(LAYER_SAMPLES))
        raise VerificationError(f"{label}: {failure}; {where}")
    from haversack.convert.verify.resized import judge_resized
    from haversack.convert.verify.stateful import judge_states

    resized = judge_resized(subject, edges, reference.samples)
    looped = judge_states(subject, edges, reference.samples)
    scores = reference.scores
    total = len(reference.source[scores]) if scores else 0
    flips = changed(reference.source[scores], outputs[scores]) if scores else None
    verification = Verification(
        verified=True,
        by=executed_by(engine),
        label=REFERENCE_EVALUATED if engine.emulated else "",
        against=subject.contract.against,
        inputs=", ".join(filter(None, (reference.samples.description, resized, looped))),
        samples=len(reference.samples),
        outputs=errors,
        to_source=to_source,
        agreement=None if flips is None else 1 - flips / total,
        changed=flips,
        agreement_compressed=(
            1 - changed(compressed[scores], outputs[scores]) / total
            if scores and compressed is not None and subject.contract.against == COMPRESSED
            else None
        ),
        layers=len(judged),
        worst_layer=max(judged, key=lambda layer: layer.error / layer.limit) if judged else None,
        notes=(*natively, *rows.notes, *notes),
    )
    return Judged(verification, whole.measured(given), edges, outputs)


def _against_native(subject: Subject, edges: Edges, samples: Samples, outputs: dict[str, Array]) -> tuple[str, ...]:
    """Execute the artifact in its native engine too, and compare; what a report says of it."""
    native = Edges(open_engine(subject.path), subject.model, subject.options)
    wanted = run_all(native.run, samples)
    content = subject.path.read_bytes()
    rows = compared(subject.path.name, content, edges.engine, native.engine, outputs, wanted)
    return tuple(sentences(described(edges.engine, native.engine, rows)))


def _mute(subject: Subject, edges: Edges, reference: Reference) -> tuple[tuple[str, ...], str]:
    """What is to be said of outputs whose comparison says nothing, and how the artifact breaks its contract inside."""
    notes = []
    for name, reason in reference.mute.items():
        limit = subject.contract.max_relative
        found = None
        if limit is not None and subject.layers:
            found = before_squashing(subject, edges, reference.samples.spread(LAYER_SAMPLES), name)
        if found is None or limit is None:
            alone = subject.contract.layers and subject.layers
            instead = "its layers were judged alone" if alone else "other inputs (--inputs DATA) would say more"
            notes.append(f"output {name} {reason}, so comparing it says little: {instead}")
            continue
        layer, far = found
        said = f"what goes into its last operator, at {layer.name} ({layer.op}), has a relative error of"
        if not far.relative <= limit:
            return (), f"output {name} {reason}, and {said} {far.relative:.2e}, {limit:g} allowed"
        notes.append(f"output {name} {reason}; {said} {far.relative:.1e}")
    return tuple(notes), ""


def broken(
    contract: Contract,
    reference: Reference,
    compressed: dict[str, Array] | None,
    outputs: dict[str, Array],
    errors: tuple[OutputError, ...],
) -> str:
    """What of the contract an artifact's outputs break, in words; empty where they keep it."""
    over = f"over {len(reference.samples)} samples ({reference.samples.description})"
    if contract.noise_margin_db is not None:
        for name, value in reference.source.items():
            if not np.isfinite(value).all():
                return f"output {name} of the source holds NaN or infinity, which integers cannot say {over}"
    for error in errors:
        if contract.max_relative is not None and not error.max_relative <= contract.max_relative:
            return (
                f"output {error.name} differs from the {contract.against}: relative error {error.max_relative:.2e}, "
                f"{contract.max_relative:g} allowed (max abs difference {error.max_abs:.3g}) {over}"
            )
        if not error.max_abs < float("inf"):
            return f"output {error.name} is not finite where the {contract.against} is {over}"
    scores = reference.scores
    if scores is not None and contract.max_changed is not None:
        rows = len(outputs[scores])
        allowed = contract.max_changed * -(-rows // 1000)
        flips = changed(reference.source[scores], outputs[scores])
        if flips > allowed:
            return f"{flips} of {rows} predictions changed, {allowed} allowed, {over}"
    if scores is not None and contract.min_agreement is not None and compressed is not None:
        rows = len(outputs[scores])
        flips = changed(compressed[scores], outputs[scores])
        # Rounded up, so that one flip between two nearly equal classes does not condemn a handful of samples.
        allowed = -(-rows * round((1 - contract.min_agreement) * 1000) // 1000)
        if flips > allowed:
            return f"{flips} of {rows} predictions differ from the compressed model's, {allowed} allowed, {over}"
    if contract.noise_margin_db is not None and compressed is not None:
        return _too_noisy(contract, reference, compressed, outputs, over)
    return ""


def _too_noisy(
    contract: Contract, reference: Reference, compressed: dict[str, Array], outputs: dict[str, Array], over: str
) -> str:
    against = compressed if contract.against == COMPRESSED else reference.source
    assert contract.noise_margin_db is not None
    own, cost = noise(against, outputs), noise(reference.source, compressed)
    for error in output_errors(against, outputs):
        margin = decibel(cost[error.name], own[error.name])
        # Where compression costs (almost) nothing, float32's own tolerance is the measure.
        if margin < contract.noise_margin_db and error.max_relative > FLOAT32:
            return (
                f"output {error.name}: noise against the {contract.against} lies {margin:.1f} dB below the noise of "
                f"the compression itself, {contract.noise_margin_db:g} dB asked {over}"
            )
    return ""


def executed_by(engine: Engine) -> str:
    """The engine in words; an emulating engine's version says that it is one."""
    return f"{engine.name} {engine.version}"


def unverified(samples: Samples | None = None) -> Verification:
    """What `--no-verify` reports."""
    return Verification(verified=False, inputs="" if samples is None else samples.description)
