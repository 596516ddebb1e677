"""Finds, by measurement, the layers of a float16 artifact that must compute in float32.

A float16 number has eleven significant bits: a logit of 20 is off by up to 0.008 before the softmax turns that into a
changed probability, and a sum beyond 65504 is lost altogether. Which layers do that depends on the weights and the
data, so nothing is decided from a list of operators. Each group of layers computes in float16 while all others compute
in float32: that shows the harm it does by itself, measured at the output on the samples on which plain float16 is
worst. The groups that harm most are held in float32. (The other way round, one group in float32 and the rest in
float16, says nothing of neighbours that are both needed: what the first keeps, the cast before the second loses.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import VerificationError
from haversack.convert.targets import Target, Written
from haversack.convert.verify.contract import RELATIVE_FLOOR
from haversack.convert.verify.edges import Edges
from haversack.convert.verify.execute import Progress, run_all
from haversack.convert.verify.judge import Judged, Subject, judge
from haversack.convert.verify.reference import Reference
from haversack.convert.verify.selection import paired
from haversack.runtimes.engines import Array, open_engine

PROBES = 16
"""How many of the worst samples a group is measured on."""

GROUPS = 48
"""At most so many groups of consecutive nodes are measured; a larger graph has longer groups."""


def repair(
    target: Target,
    subject: Subject,
    reference: Reference,
    compressed: dict[str, Array] | None,
    failure: VerificationError,
    progress: Progress | None = None,
    likely: frozenset[str] = frozenset(),
) -> tuple[Written, Judged, frozenset[str]]:
    """Write a float16 artifact again with as few layers in float32 as its contract needs.

    Args:
        target: One whose `write` heeds `Options.float32_nodes`.
        subject: The artifact that failed; it is replaced.
        reference: What the source computes.
        compressed: What the compressed hub graph computes, where the contract is against it.
        failure: How it failed.
        progress: Hears how far it is.
        likely: Layers that needed float32 in another artifact of the same model: they are tried before anything is
            measured.

    Returns:
        What was written, with a note that names the float32 layers; its judgement; and these layers.

    Raises:
        VerificationError: `failure`, where all of it in float32 would fail too.
    """
    sought = reference if compressed is None else dataclasses.replace(reference, source=compressed)
    groups = _groups(subject.model)
    everything = frozenset(name for group in groups for name in group)
    # Relative to the peak over all samples, as the contract is, also where only a few are run.
    peaks = {name: max(float(np.abs(value).max()), RELATIVE_FLOOR) for name, value in sought.source.items()}
    likely &= everything
    if likely:
        attempt, written = _write(target, subject, likely)
        with contextlib.suppress(VerificationError):
            return _noted(written, likely, everything), judge(attempt, reference, compressed, progress), likely
    probe = sought
    if all(value.shape is not None and value.shape.is_static() for value in subject.model.graph.outputs):
        probe = _worst(sought, _sample_errors(sought, _outputs(subject, sought), peaks), PROBES)
    harms = []
    for index, group in enumerate(groups):
        if progress is not None:
            progress(0.6 * index / len(groups), "measuring which layers need float32")
        attempt, _ = _write(target, subject, everything - frozenset(group))
        harms.append(_harm(attempt, probe, peaks)[0])
    ranked = [groups[index] for index in np.argsort(-np.array(harms), kind="stable")]
    for step, kept in enumerate(_doubling(len(ranked))):
        nodes = frozenset(name for group in ranked[:kept] for name in group)
        attempt, written = _write(target, subject, nodes)
        if not _harm(attempt, probe, peaks)[1]:
            continue
        try:
            judged = judge(attempt, reference, compressed, None if progress is None else _part(progress, step))
        except VerificationError:
            continue
        return _noted(written, nodes, everything), judged, nodes
    raise failure


def _noted(written: Written, nodes: frozenset[str], everything: frozenset[str]) -> Written:
    named = ", ".join(sorted(nodes)[:4]) + (", …" if len(nodes) > 4 else "")
    share = f"{len(nodes)} of {len(everything)} layers"
    note = f"{share} compute in float32, since float16 there left the contract: {named}."
    return dataclasses.replace(written, notes=(*written.notes, note))


def _groups(model: ir.Model) -> list[list[str]]:
    """Names of the nodes that compute on floats, in execution order, in at most `GROUPS` groups of equal length."""
    names = [str(node.name) for node in model.graph if node.op_type != "Cast" and _computes(node)]
    length = max(1, -(-len(names) // GROUPS))
    return [names[start : start + length] for start in range(0, len(names), length)]


def _computes(node: ir.Node) -> bool:
    return any(value.dtype == ir.DataType.FLOAT for value in node.outputs)


def _write(target: Target, subject: Subject, nodes: frozenset[str]) -> tuple[Subject, Written]:
    options = dataclasses.replace(subject.options, float32_nodes=nodes)
    shutil.rmtree(subject.path, ignore_errors=True)
    written = target.write(subject.model, subject.compression, subject.path, options)
    return dataclasses.replace(subject, layers=written.layers, options=options), written


def _outputs(subject: Subject, reference: Reference) -> dict[str, Array]:
    edges = Edges(open_engine(subject.path), subject.model, subject.options)
    return run_all(edges.run, reference.samples)


def _harm(subject: Subject, reference: Reference, peaks: Mapping[str, float]) -> tuple[float, bool]:
    """How far an artifact is from the reference, and whether that is within its contract.

    The largest relative error, and 1 more, beyond any tolerance, for each selected row that has no counterpart.
    """
    rows = paired(subject.model, reference.source, _outputs(subject, reference), subject.contract)
    error = float(_sample_errors(dataclasses.replace(reference, source=rows.source), rows.outputs, peaks).max())
    limit = subject.contract.max_relative
    return error + rows.alone, not rows.failure and (limit is None or error <= limit)


def _sample_errors(reference: Reference, outputs: dict[str, Array], peaks: Mapping[str, float]) -> Array:
    """The largest relative error of each sample, [samples]; what is not finite counts as infinite.

    Of outputs whose size depends on the sample it is the largest of all samples; another size counts as infinite.
    """
    count = len(reference.samples)
    worst = np.zeros(count)
    for name, wanted in reference.source.items():
        if outputs[name].size != wanted.size:
            return np.full(count, np.inf)
        with np.errstate(invalid="ignore", over="ignore"):
            far = np.abs(wanted.astype(np.float64) - outputs[name].reshape(wanted.shape))
        even = wanted.size and wanted.size % count == 0
        far = far.reshape(count, -1).max(axis=1) if even else np.full(count, far.max(initial=0.0))
        worst = np.maximum(worst, np.where(np.isfinite(far), far, np.inf) / peaks[name])
    return worst


def _worst(reference: Reference, errors: Array, count: int) -> Reference:
    """The reference on the `count` samples whose errors are largest."""
    total = len(reference.samples)
    chosen = np.sort(np.argsort(-errors, kind="stable")[:count])
    feeds = reference.samples.pick([int(index) for index in chosen])
    source = {
        name: value.reshape(total, -1, *value.shape[1:])[chosen].reshape(-1, *value.shape[1:])
        for name, value in reference.source.items()
    }
    samples = dataclasses.replace(reference.samples, feeds=feeds, labels=None)
    return dataclasses.replace(reference, samples=samples, source=source)


def _doubling(most: int) -> Sequence[int]:
    """1, 2, 4, … up to and including `most`."""
    counts = [1]
    while counts[-1] < most:
        counts.append(min(2 * counts[-1], most))
    return counts


def _part(progress: Progress, step: int) -> Progress:
    return lambda fraction, phrase: progress(min(0.99, 0.6 + 0.1 * (step + fraction)), phrase)
