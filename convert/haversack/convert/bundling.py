"""From packed variants to a bundle: what the manifest says of each, its golden vectors, and what was measured."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from haversack.convert import latency
from haversack.convert.budget import variant_id
from haversack.convert.bundle import NewVariant, write_bundle
from haversack.convert.compress.recipes import Recipe
from haversack.convert.measured import Accuracy
from haversack.convert.outcome import Outcome
from haversack.convert.packed import Made
from haversack.convert.qat.names import trained_layers
from haversack.convert.report import Skipped, Variant, encode
from haversack.convert.sources.classifiers import class_names
from haversack.convert.verify.contract import FLOAT16, FLOAT32, RELATIVE_FLOOR
from haversack.convert.verify.edges import Edge, Edges, model_specs, output_scale
from haversack.convert.verify.execute import Samples
from haversack.convert.work import Work
from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.errors import FeedError
from haversack.runtimes.manifest import Manifest, Provenance, Tensor, Tolerance
from haversack.runtimes.measurements import Latency, Measurements, VariantMeasurements
from haversack.runtimes.preprocess import Preprocess

Layouts = Mapping[tuple[str, str], str]
"""The axis order, such as `NCHW`, of a model's inputs and outputs, by kind and name."""

CHANNELS_FIRST = {3: "NCW", 4: "NCHW", 5: "NCDHW"}
"""What a tensor of that rank is called whose axis 1 a variant moved to the end."""

Golden = list[tuple[dict[str, Array], dict[str, Array]]]

GOLDEN_VECTORS = 3
GOLDEN_BYTES = 1 << 20
"""Golden vectors stop before they add more than this to a bundle; one is always there."""

TOOLS = ("haversack", "numpy", "onnx", "onnx-ir", "onnxruntime", "ai-edge-litert", "coremltools")
READERS = ("tensorflow", "tf2onnx")


def bundle(
    path: Path,
    work: Work,
    made: Sequence[Made],
    recipes: Sequence[Recipe],
    samples: Samples | None,
    evaluated: bool,
    source_accuracy: Accuracy | None,
    skipped: Sequence[Skipped],
    given: Mapping[str, Any],
    outcome: Outcome | None = None,
) -> Manifest:
    """Write the bundle of packed variants.

    Args:
        path: Of the bundle.
        work: The model they were made from.
        made: The variants.
        recipes: What they were made by.
        samples: What they were verified on; None where they were not.
        evaluated: Whether those samples are the user's evaluation data.
        source_accuracy: Of the source.
        skipped: What was not made.
        given: The user's own provenance: `training_data`, `code_commit`, `hyperparameters`.
        outcome: What packing came to: beside the measurements, since it follows from them.
    """
    graph = work.source.model.graph
    layouts = _layouts(work, made)
    calibration = work.calibration
    by_name = {recipe.name: recipe for recipe in recipes}
    return write_bundle(
        path,
        name=work.source.name,
        inputs=[
            Tensor(s.name, s.dtype, s.shape, layouts.get(("input", s.name))) for s in model_specs(list(graph.inputs))
        ],
        outputs=[
            Tensor(s.name, s.dtype, s.shape, layouts.get(("output", s.name))) for s in model_specs(list(graph.outputs))
        ],
        variants=[_entry(each, by_name[each.variant.compression], samples, layouts, work) for each in made],
        provenance=Provenance(
            source=work.path.name,
            source_format=work.source.format,
            source_sha256=work.source.sha256,
            tools=_tools(work.source.format),
            calibration=None if calibration is None else calibration.description,
            calibration_sha256=None if calibration is None else calibration.sha256,
            evaluation=samples.description if samples is not None and evaluated else None,
            evaluation_sha256=samples.sha256 if samples is not None and evaluated else None,
            training_data=given.get("training_data"),
            code_commit=given.get("code_commit"),
            hyperparameters=given.get("hyperparameters") or {},
        ),
        labels=class_labels(work, samples),
        preprocess=work.preprocess,
        measurements=Measurements(
            date=_date(),
            machine=latency.machine(),
            variants={variant_id(each.variant): _measured(each.variant) for each in made},
            facts={
                "source_accuracy": encode(source_accuracy),
                "samples": None if samples is None else samples.description,
                "skipped": encode(list(skipped)),
                **({} if outcome is None else {"outcome": encode(outcome)}),
            },
        ),
    )


def _entry(made: Made, recipe: Recipe, samples: Samples | None, layouts: Layouts, work: Work) -> NewVariant:
    variant, proof = made.variant, made.variant.verification
    inputs = tuple(_tensor(edge, _moved(layouts.get(("input", edge.name)), edge)) for edge in made.edges.inputs)
    outputs = tuple(_tensor(edge, _moved(layouts.get(("output", edge.name)), edge)) for edge in made.edges.outputs)
    golden = [] if samples is None or not proof.verified else golden_vectors(made.edges, samples)
    parameters: dict[str, str] = {"ranges": recipe.ranges, "weights": recipe.weights} if recipe.name == "int8" else {}
    if recipe.methods is not None:
        parameters["methods"] = ",".join(recipe.methods)
    if recipe.plan is not None:
        trained = trained_layers(work.sized, work.path, work.source.format)
        parameters = {"plan": recipe.plan.to_json(), "layers": json.dumps(encode(trained))}
    return NewVariant(
        id=variant_id(variant),
        target=variant.target,
        compression=variant.compression,
        artifact=made.written.path,
        inputs=inputs,
        outputs=outputs,
        companions=made.written.companions,
        golden=golden,
        tolerance=tolerance(made, recipe.family, golden),
        recipe=parameters,
        verified=proof.verified,
        judged_by=f"{proof.by} against the {proof.against}" if proof.verified else "",
        emulated=bool(proof.label),
        min_runtime=variant.min_runtime,
        notes=(*variant.notes, *proof.notes),
    )


def class_labels(work: Work, samples: Samples | None) -> tuple[str, ...] | None:
    """Name of each class: the data's folders, or what a classifier's own output names."""
    return (None if samples is None else samples.classes) or class_names(work.source.restated)


def golden_vectors(edges: Edges, samples: Samples) -> Golden:
    """Some samples as the artifact takes them, and what it gives for them, by the model's names."""
    vectors: Golden = []
    held = 0
    for sample in (*samples.spread(GOLDEN_VECTORS), *([edges.resized] if edges.resized is not None else [])):
        held += sum(array.nbytes for array in sample.values())
        if vectors and held > GOLDEN_BYTES:
            break
        given = {edge.name: edge.enter(sample[edge.name]) for edge in edges.inputs}
        results = edges.engine.run({edge.spec.name: given[edge.name] for edge in edges.inputs})
        vectors.append((given, {edge.name: results[edge.spec.name] for edge in edges.outputs}))
    return vectors


def artifact_golden(edges: Edges, samples: Samples) -> Golden:
    """The golden vectors by the artifact's own names."""
    inputs = {edge.name: edge.spec.name for edge in edges.inputs}
    outputs = {edge.name: edge.spec.name for edge in edges.outputs}
    return [
        ({inputs[n]: array for n, array in given.items()}, {outputs[n]: array for n, array in expected.items()})
        for given, expected in golden_vectors(edges, samples)
    ]


def tolerance(made: Made, family: str, golden: Golden) -> Tolerance:
    """How far a device may be from the golden outputs.

    Float variants: the recipe's own tolerance, of the output's peak over all vectors as the contract has it (a single
    vector's may be far below), and of the vector's own, since two machines that keep the contract may be twice as far
    apart. Integer kernels differ by one LSB a layer between CPUs: allowed is half of what quantization itself moved
    the outputs (the amplitude of the 6 dB that the recipe's contract asks), and two LSB of the output at least.
    """
    variant = made.variant
    if family not in ("int8", "int16", "int8-dynamic"):
        limit = FLOAT16 if family.endswith("fp16") else FLOAT32
        return Tolerance(absolute=limit * _smallest_peak(golden), relative=limit)
    moved = max((error.max_abs for error in variant.verification.to_source), default=0.0) / 2
    absolute = 0.0
    for edge, value in zip(made.edges.outputs, made.edges.graph_outputs, strict=True):
        scale = output_scale(value)
        step = 0.0 if scale is None else 2 * scale[0]
        # An output that the artifact holds as integers is compared as integers.
        absolute = max(absolute, max(moved, step) / (edge.scale or 1.0))
    return Tolerance(absolute=absolute, relative=FLOAT32)


def _smallest_peak(golden: Golden) -> float:
    """The largest magnitude of each output over all vectors; of several outputs the least, which holds for all."""
    peaks: dict[str, float] = {}
    for _, outputs in golden:
        for name, array in outputs.items():
            finite = np.abs(array[np.isfinite(array)].astype(np.float64))
            peaks[name] = max(peaks.get(name, RELATIVE_FLOOR), float(finite.max(initial=0.0)))
    return min(peaks.values(), default=RELATIVE_FLOOR)


def _tensor(edge: Edge, layout: str | None) -> Tensor:
    zero_point = None if edge.scale is None else edge.zero_point
    return Tensor(edge.spec.name, edge.spec.dtype, edge.spec.shape, layout, edge.scale, zero_point)


def fitted(preprocess: Preprocess | None, inputs: Sequence[TensorSpec]) -> Preprocess | None:
    """The user's preprocessing, completed from the artifact's one input; None where it takes no image."""
    if preprocess is None or len(inputs) != 1:
        return None
    try:
        return preprocess.fit(inputs[0].shape, inputs[0].dtype)
    except FeedError:
        return None


def _layout(work: Work) -> str | None:
    """The axis order of the model's input where the user's preprocessing knows it."""
    fit = fitted(work.preprocess, model_specs(list(work.bound.graph.inputs)))
    return None if fit is None else fit.layout


def _layouts(work: Work, made: Sequence[Made]) -> Layouts:
    """What is known of the model's own axes: from the preprocessing, and from what a variant moved."""
    found = {
        (moved.kind, moved.name): CHANNELS_FIRST[len(moved.shape)] for each in made for moved in each.variant.moved
    }
    layout = _layout(work)
    if layout is not None:
        found["input", str(work.bound.graph.inputs[0].name)] = layout
    return found


def _moved(layout: str | None, edge: Edge) -> str | None:
    if layout is None or edge.permutation is None:
        return layout
    return "".join(layout[axis] for axis in edge.permutation)


def _measured(variant: Variant) -> VariantMeasurements:
    taken = variant.latency
    latencies: tuple[Latency, ...] = ()
    if taken is not None:
        row = Latency(
            engine=taken.engine.split()[0],
            machine=taken.machine,
            threads=taken.threads,
            runs=taken.runs,
            p50_ms=taken.p50,
            p95_ms=taken.p95,
            p99_ms=taken.p99,
        )
        latencies = (row,)
    measured = variant.accuracy
    plain = measured is not None and measured.metric == "top1" and not measured.stands_in
    return VariantMeasurements(
        accuracy=measured.value if measured is not None and plain else None,
        agreement=variant.verification.agreement,
        latencies=latencies,
        facts={
            "gzip_bytes": variant.gzip_bytes,
            "brotli_bytes": variant.brotli_bytes,
            **({"parts": encode(variant.parts)} if variant.parts else {}),
            # Readers take `accuracy` for a share of right answers; what is another metric has another name.
            "accuracy" if plain else "metric": encode(measured),
            "verification": encode(variant.verification),
            "deployment": encode(variant.deployment),
        },
    )


def _tools(source_format: str) -> dict[str, str]:
    names = TOOLS if source_format == "onnx" else (*TOOLS, *READERS)
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _date() -> str:
    """Now, or what `SOURCE_DATE_EPOCH` says is now."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.datetime.now(datetime.UTC)
    if epoch is not None and epoch.isdigit():
        moment = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
    return moment.replace(microsecond=0).isoformat()
