"""What each method of `compress/methods` buys: KWS and ResNet8 with weights of 4 bits in every layer.

    python -m benchmarks.compression_methods                           both models, about ten minutes on one core
    python -m benchmarks.compression_methods --model KWS --every 5     a fifth of the evaluation samples
    python -m benchmarks.compression_methods --write docs/results.md   put the table between the file's `methods` marks

No layer is spared. Each row is the hub graph, run by onnxruntime with its optimisations off: weights alone on their
grids, activations float; and with int8 activations as well. Rows: rounding to the nearest on the scale that holds the
largest weight, each method alone, and methods together. Nothing is chosen by evaluation labels; the signal-to-noise
ratio is that of the outputs before the softmax on the calibration data that the methods saw.

A second table has int8 as `convert --compress int8 --weights … --methods …` makes it, with what an x86 CPU whose
u8 x s8 products saturate would compute of it (`methods/portability.py`, emulated).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.marks import write_between_marks
from benchmarks.mlperf_tiny import CASES, DATA, Case
from haversack.convert.compress import compress, qdq
from haversack.convert.compress.calibrate import calibrate
from haversack.convert.compress.groups import quantization
from haversack.convert.compress.methods import apply, portability
from haversack.convert.compress.methods.reconstruct import Wanted
from haversack.convert.compress.methods.stepwise import sample
from haversack.convert.compress.operators import constant
from haversack.convert.compress.range_of import scale_of_group
from haversack.convert.compress.recipes import Recipe
from haversack.convert.data import open_data
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.shapes import bind_batch
from haversack.convert.measured import Accuracy
from haversack.convert.sources import read
from haversack.convert.verify.accuracy import accuracy
from haversack.convert.verify.edges import model_specs
from haversack.runtimes.engines import Array
from haversack.runtimes.preprocess import Preprocess

LIMIT = 7
"""The largest whole number of four bits."""

ROWS: tuple[tuple[str, ...], ...] = (
    (),
    ("fitted-scales",),
    ("equalize",),
    ("analytic-bias-correction",),
    ("bias-correction",),
    ("second-order",),
    ("adaround",),
    ("fitted-scales", "bias-correction"),
    ("fitted-scales", "second-order", "bias-correction"),
    ("fitted-scales", "adaround", "bias-correction"),
    ("equalize", "fitted-scales", "adaround", "bias-correction"),
)

INT8_ROWS: tuple[tuple[str, ...], ...] = (
    (),
    ("bias-correction",),
    ("second-order", "bias-correction"),
    ("reduced-range",),
    ("reduced-range", "second-order", "bias-correction"),
)

EMULATED = 128
"""Evaluation inputs, without their labels, that the saturating CPU is emulated on."""


@dataclass(frozen=True)
class Inputs:
    """A model and what it is judged on."""

    model: ir.Model
    calibration: Sequence[Mapping[str, Array]]
    evaluation: Sequence[Mapping[str, Array]]
    labels: Array
    logits: str


@dataclass(frozen=True)
class Row:
    """One way to compress."""

    weights: str
    activations: str
    methods: tuple[str, ...]
    accuracy: Accuracy
    decibels: float
    seconds: float


def load(case: Case, every: int) -> Inputs:
    """The float hub graph, all calibration data, and every so many-th evaluation sample."""
    model = bind_batch(read(DATA / case.source).model)
    preprocess = Preprocess.from_spec(case.preprocess) if case.preprocess else None
    specs = model_specs(list(model.graph.inputs))
    calibration = [dict(feeds) for feeds, _ in open_data(DATA / case.calibration, specs, preprocess).batches(1)]
    pairs = [
        pair for i, pair in enumerate(open_data(DATA / case.evaluation, specs, preprocess).batches(1)) if not i % every
    ]
    labels = np.array([label for _, label in pairs]).reshape(-1)
    last = model.graph.outputs[0].producer()
    assert last is not None
    assert last.inputs[0] is not None
    return Inputs(model, calibration, [dict(feeds) for feeds, _ in pairs], labels, str(last.inputs[0].name))


def four_bits(given: Inputs, methods: tuple[str, ...], *, per_channel: bool, integers: bool) -> ir.Model:
    """The model with weights of four bits, and perhaps int8 activations."""
    model, _ = apply.before(given.model, methods)
    batches = sample(given.calibration, model)
    nodes = [node for node in model.graph if node.op_type in ("Conv", "Gemm") and constant(node.inputs[1]) is not None]
    wanted = {str(node.name): Wanted(LIMIT, per_channel) for node in nodes}
    prepared = apply.round_weights(model, wanted, methods, batches)
    made = prepared.model
    if integers:
        names = [
            str(member.name)
            for group in quantization(model.graph).groups
            if group.fixed is None
            for member in group.members
            if isinstance(member, ir.Value)
        ]
        seen = calibrate(model, names, given.calibration)
        made = prepared.model.clone()
        plan = quantization(made.graph)
        scales = {id(group): scale_of_group(group, seen, "mse") for group in plan.groups}
        qdq.insert(
            made.graph, plan, lambda group: scales[id(group)], dict.fromkeys(wanted, per_channel), prepared.integers
        )
    return apply.after(model, made, methods, batches)[0]


def scores(model: ir.Model, logits: str, data: Sequence[Mapping[str, Array]]) -> Array:
    """The values before the softmax, [samples, classes]."""
    present = {value.name for node in model.graph for value in node.outputs}
    name = f"{logits}_dequantized" if f"{logits}_dequantized" in present else logits
    evaluator = Evaluator(model, [name])
    return np.concatenate([evaluator.run(dict(feeds))[name] for feeds in data])


def decibels(reference: Array, found: Array) -> float:
    """Signal power over noise power."""
    noise = float(np.square(reference.astype(np.float64) - found).sum())
    return 10 * float(np.log10(np.square(reference.astype(np.float64)).sum() / noise))


def run(given: Inputs, name: str) -> Iterator[Row]:
    """Every row of a model."""
    reference = scores(given.model, given.logits, given.evaluation)
    seen = scores(given.model, given.logits, given.calibration)
    exact = accuracy(reference, reference, given.labels)
    yield Row("float", "float", (), exact, np.inf, 0.0)
    for integers in (False, True):
        for per_channel in (True, False):
            for methods in ROWS:
                begin = time.perf_counter()
                made = four_bits(given, methods, per_channel=per_channel, integers=integers)
                took = time.perf_counter() - begin
                found = accuracy(scores(made, given.logits, given.evaluation), reference, given.labels)
                against = decibels(seen, scores(made, given.logits, given.calibration))
                granularity = "per-channel" if per_channel else "per-tensor"
                row = Row(f"4 bits, {granularity}", "int8" if integers else "float", methods, found, against, took)
                print(
                    f"{name}: {row.weights}, {row.activations}: {_words(methods)} {100 * found.value:.2f} %",
                    file=sys.stderr,
                )
                yield row


def portable(given: Inputs, name: str) -> Iterator[str]:
    """Rows of the second table."""
    reference = scores(given.model, given.logits, given.evaluation)
    for granularity in ("per-channel", "per-tensor"):
        for methods in INT8_ROWS:
            recipe = Recipe("int8", weights=granularity, methods=methods)
            made = compress(given.model, recipe, given.calibration).model
            found = accuracy(scores(made, given.logits, given.evaluation), reference, given.labels)
            step = max(1, len(given.evaluation) // EMULATED)
            saturation = portability.saturated(made, given.evaluation[::step][:EMULATED])
            lost = (
                "nothing saturates"
                if not saturation.happens
                else (f"{100 * saturation.agreement:.1f} % keep their class, {saturation.signal_to_noise:.1f} dB")
            )
            yield f"| {name} | {granularity} | {_words(methods)} | {_score(found)} | {lost} |"


def _words(methods: tuple[str, ...]) -> str:
    return " + ".join(methods) if methods else "nearest"


def _score(found: Accuracy) -> str:
    return f"{100 * found.value:.2f} % | {_change(found)}"


def _change(found: Accuracy) -> str:
    low, high = 100 * found.difference_low, 100 * found.difference_high
    return f"{100 * found.difference:+.2f} ({low:+.2f} … {high:+.2f})"


def table(results: Mapping[str, list[Row]], ported: Sequence[str]) -> str:
    """Both tables in Markdown."""
    lines = [
        "| model | weights | activations | methods | accuracy | against float, points (95 %) | dB | s |",
        "|---|---|---|---|--:|---|--:|--:|",
    ]
    for name, rows in results.items():
        for row in rows:
            ratio = "–" if np.isinf(row.decibels) else f"{row.decibels:.1f}"
            methods = "–" if row.weights == "float" else _words(row.methods)
            lines.append(
                f"| {name} | {row.weights} | {row.activations} | {methods} | {_score(row.accuracy)} "
                f"| {ratio} | {row.seconds:.1f} |"
            )
    lines += [
        "",
        "| model | int8 weights | methods | accuracy | against float, points (95 %) | x86 without VNNI, emulated |",
        "|---|---|---|--:|---|---|",
        *ported,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[case.name for case in CASES])
    parser.add_argument("--every", type=int, default=1, help="of the evaluation samples, take every so many-th")
    parser.add_argument(
        "--write", type=Path, help="a Markdown file with the marks <!-- methods --> and <!-- /methods -->"
    )
    options = parser.parse_args()
    results, ported = {}, []
    for case in CASES:
        if options.model in (None, case.name):
            given = load(case, options.every)
            results[case.name] = list(run(given, case.name))
            ported += list(portable(given, case.name))
    text = table(results, ported)
    print(text)
    if options.write:
        write_between_marks(options.write, text, "methods")


if __name__ == "__main__":
    main()
