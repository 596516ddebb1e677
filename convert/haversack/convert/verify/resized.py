"""Running a resizable artifact at other sizes than its default, as what it is for, and comparing there too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from haversack.convert.data import synthetic
from haversack.convert.errors import VerificationError
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.verify.compare import distance
from haversack.convert.verify.contract import FLOAT32
from haversack.convert.verify.edges import Edges, model_specs
from haversack.convert.verify.execute import Samples
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError

if TYPE_CHECKING:
    from haversack.convert.verify.judge import Subject

SEED = 77
ROUNDING_DB = 10.0
"""Signal-to-noise that integer kernels must keep against the compressed model: roundings leave more, a wrong shape,
axis or row leaves about none. What they round exactly was judged layer by layer at the default size."""


def judge_resized(subject: Subject, edges: Edges, samples: Samples) -> str:
    """Run a resizable artifact at other sizes, each time once more at a sample's, and compare with the hub graph.

    Args:
        subject: The artifact.
        edges: It, opened; `resized` is set to the inputs of the last size.
        samples: What it was run on at its default size.

    Returns:
        Which sizes were run, as a phrase; empty for an artifact that has one size.

    Raises:
        VerificationError: It gives something else than the model there, or remembers one size at another.
    """
    resizing = subject.options.resizing
    if resizing is None or all(isinstance(size, int) for spec in edges.engine.inputs for size in spec.shape):
        return ""
    fixed = {name for edge, value in zip(edges.inputs, resizing.model.graph.inputs, strict=True)
             for name, size in _sizes(edge.spec.shape, edge.permutation, value) if isinstance(size, int)}  # fmt: skip
    said = []
    for point in resizing.checked:
        sizes = {name: resizing.default[name] if name in fixed else size for name, size in point.items()}
        if sizes != resizing.default:
            told = resizing.flexible or sizes  # where sizes were asked for, the others are fixed
            said.append(", ".join(f"{name}={sizes[name]}" for name in told))
            edges.resized = _judge_at(subject, edges, samples, resizing.at(sizes), said[-1])
    return f"and resized to {'; '.join(said)}"


def _judge_at(subject: Subject, edges: Edges, samples: Samples, model: ir.Model, said: str) -> Mapping[str, Array]:
    """Compare at one other size; gives the inputs that were run.

    Args:
        subject: The artifact.
        edges: It, opened.
        samples: Of the default size.
        model: The compressed hub graph at the other size.
        said: That size in words.

    Raises:
        VerificationError: As `judge_resized`.
    """
    feeds = _joined(model, samples)
    if feeds is None:
        feeds, _ = next(iter(synthetic(model_specs(list(model.graph.inputs)), 1, SEED).batches(1)))
    before = edges.run(samples.feeds[0])
    try:
        found = edges.run(feeds)
    except HaversackError as error:
        raise VerificationError(f"resized to {said}, the artifact cannot be run: {error}") from error
    for name, wanted in Evaluator(model).run(feeds).items():
        if found[name].shape != wanted.shape:
            given = f"{list(found[name].shape)} where the model gives {list(wanted.shape)}"
            raise VerificationError(f"resized to {said}, output {name} is {given}")
        far, limit = distance(wanted, found[name]), subject.contract.max_relative
        if limit is None and far.relative > FLOAT32 and far.snr_db < ROUNDING_DB:
            raise VerificationError(f"resized to {said}, output {name} has a signal-to-noise of {far.snr_db:.0f} dB")
        if limit is not None and not far.relative <= limit:
            raise VerificationError(
                f"resized to {said}, output {name} differs from the compressed model: relative error "
                f"{far.relative:.2e}, {limit:g} allowed"
            )
    for name, value in edges.run(samples.feeds[0]).items():
        if not np.array_equal(value, before[name], equal_nan=value.dtype.kind == "f"):
            raise VerificationError(f"after a run at {said}, output {name} is another one at the size before")
    return feeds


def _sizes(
    shape: tuple[int | str, ...], permutation: tuple[int, ...] | None, value: ir.Value
) -> list[tuple[str, int | str]]:
    """The symbolic dimensions of a model input, each with what the artifact has there."""
    order = list(permutation or range(len(shape)))
    dims = enumerate(value.shape or ())
    return [
        (dim.value or f"{value.name}_{axis}", shape[order.index(axis)])
        for axis, dim in dims
        if isinstance(dim, ir.SymbolicDim)
    ]


def _joined(model: ir.Model, samples: Samples) -> Mapping[str, Array] | None:
    """Samples joined along their first axis to the model's inputs; None where that does not give their shapes."""
    feeds = {}
    for value in model.graph.inputs:
        shape = tuple(value.shape.numpy()) if value.shape is not None else ()
        picked = samples.pick([n % len(samples) for n in range(shape[0] if shape else 1)])
        rows = [feeds[str(value.name)] for feeds in picked]
        joined = np.concatenate(rows) if shape else rows[0]
        if joined.shape != shape:
            return None
        feeds[str(value.name)] = joined
    return feeds
