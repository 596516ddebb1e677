"""What every artifact of one model is judged by: the source's own outputs on the samples, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from haversack.convert.errors import DataError, VerificationError
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.mapped import LARGE_BYTES, release_weights, weight_bytes
from haversack.convert.measured import Accuracy
from haversack.convert.sources import Source
from haversack.convert.verify.accuracy import Measure
from haversack.convert.verify.compare import output_errors
from haversack.convert.verify.contract import FLOAT32
from haversack.convert.verify.execute import Progress, Samples, run_all
from haversack.convert.verify.information import mute
from haversack.convert.verify.metrics import Truth
from haversack.convert.verify.original import open_original, rounds
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import EngineError

ROUNDING_DB = 10.0
"""Signal-to-noise that a file of integer kernels must at least have against its float meaning.

One rounding to 8 bits leaves 6.02 * 8 - 7 = 41 dB of a signal that fills its range; a thousand independent ones in a
row leave 30 dB less. A wrong operator or weight leaves about none.
"""


@dataclass(frozen=True)
class Reference:
    """The source, executed.

    Attributes:
        samples: What on.
        source: Its outputs, by the model's names, all samples joined.
        by: What executed it.
        scores: Name of the output that holds class scores [samples, classes]; None where there is none.
        mute: Outputs whose comparison says nothing, each with the reason.
        measure: What of artifacts is measured beside the source.
        notes: What the user should know of how the source was executed.
    """

    samples: Samples
    source: dict[str, Array]
    by: str
    scores: str | None
    notes: tuple[str, ...] = ()
    mute: Mapping[str, str] = field(default_factory=dict)
    measure: Measure = field(default_factory=Measure)

    def measured(self, outputs: Mapping[str, Array]) -> Accuracy | None:
        """The metric of outputs beside the source's; None where none was named and there is nothing to measure.

        Raises:
            DataError: The metric that was named cannot be measured on this model and data.
        """
        labels = self.samples.labels
        if not self.measure.asked and (self.scores is None or (labels is None and self.samples.synthetic)):
            return None
        rows = len(labels) if labels is not None else len(self.source[self.scores]) if self.scores else 0
        truth = Truth(self.source, labels, self.scores, rows or len(self.samples))
        return self.measure({name: value.reshape(self.source[name].shape) for name, value in outputs.items()}, truth)


def refer(path: Path, source: Source, model: ir.Model, samples: Samples, progress: Progress | None = None) -> Reference:
    """Execute the source on the samples by its own runtime, and hold the hub graph against it.

    Where the source is a `.tflite` file whose own integer or hybrid kernels round as they go, the float graph that
    was read from it is the reference, and a note says how far the two are apart: no further than rounding can take it.

    Args:
        path: The source file.
        source: What was read from it.
        model: The hub graph, with static shapes where artifacts have them.
        samples: What to execute on.
        progress: Hears how far it is.

    Raises:
        VerificationError: The graph that was read does not compute what the source file computes, or gives nothing
            that an artifact could be held to.
        DataError: A label lies beyond the model's classes.
    """
    inputs = tuple(value.name or "" for value in model.graph.inputs)
    outputs = tuple(value.name or "" for value in model.graph.outputs)
    read = run_all(Evaluator(model).run, samples, progress, "running the model as read")
    release_weights(model)
    scores = class_scores(model, read, labelled=samples.labels is not None)
    labels = _check_labels(samples, None if scores is None else read[scores])
    nothing = mute(model, read, len(samples))
    try:
        large = weight_bytes(model) > LARGE_BYTES
        run, by = open_original(path, source.format, inputs, outputs, large=large, restated=source.restated)
    except EngineError as error:
        note = f"its own runtime cannot open the source, so the model as read is the reference: {error}"
        return Reference(samples, read, "the model as read", scores, (note, *labels), nothing)
    original = run_all(run, samples, progress, "running the source")
    original = {name: original[name].reshape(value.shape) for name, value in read.items()}
    errors = output_errors(original, read)
    wrong = [error for error in errors if not error.max_relative <= FLOAT32]
    if not wrong:
        return Reference(samples, original, by, scores, labels, nothing)
    worst = max(wrong, key=lambda error: error.max_relative)
    far = f"relative error {worst.max_relative:.1e} at output {worst.name}"
    clean = all(error.snr_db is not None and error.snr_db >= ROUNDING_DB for error in wrong)
    if not clean or not rounds(path, source.format):
        raise VerificationError(f"{source.name}: the model as read does not compute what {by} computes: {far}")
    snr = f", signal-to-noise {worst.snr_db:.0f} dB" if worst.snr_db is not None else ""
    note = (
        f"the source's own integer or hybrid kernels round otherwise than its float meaning, the reference ({far}{snr})"
    )
    return Reference(samples, read, "the model as read", scores, (note, *labels), nothing)


def _check_labels(samples: Samples, scores: Array | None) -> tuple[str, ...]:
    """Hold labels against the class scores; says where there is nothing to measure an accuracy on.

    Raises:
        DataError: There is a label without a class, or another count of labels than of rows.
    """
    if samples.labels is None:
        return ()
    if scores is None:
        return ("labels were given, but no output holds class scores [samples, classes]: no accuracy was measured",)
    classes = max(scores.shape[1], 2)  # One score a row decides between two.
    if samples.labels.max() >= classes:
        raise DataError(
            f"{samples.description}: a label is {samples.labels.max()}, and the model has {classes} classes, "
            f"0 to {classes - 1}; number them as the model was trained"
        )
    if len(samples.labels) != len(scores):
        raise DataError(f"{samples.description}: {len(samples.labels)} labels for {len(scores)} rows of class scores")
    return ()


def class_scores(model: ir.Model, outputs: dict[str, Array], *, labelled: bool) -> str | None:
    """The output whose rows are class scores: the first of shape [samples, classes].

    A single score a row needs labels to be one, and an output shaped like an input (an autoencoder's) is none.
    """
    shapes = {_sizes(value) for value in model.graph.inputs}
    for value in model.graph.outputs:
        assert value.name is not None
        array = outputs[value.name]
        if (
            array.ndim == 2
            and array.size
            and array.dtype.kind == "f"
            and (array.shape[1] > 1 or (labelled and array.shape[1] == 1))
        ):
            if not labelled and _sizes(value) in shapes:
                continue
            return value.name
    return None


def _sizes(value: ir.Value) -> tuple[str, ...]:
    return () if value.shape is None else tuple(str(dim) for dim in value.shape)
