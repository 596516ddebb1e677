"""One model on its way to artifacts: what was read, at which sizes, compressed how, and what its source computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from haversack.convert import described
from haversack.convert.compress import Compressed
from haversack.convert.compress import compress as compress_graph
from haversack.convert.compress.mixed import EQUALIZE, Observed, apply_plan, observe_model
from haversack.convert.compress.recipes import Recipe
from haversack.convert.data import Dataset, open_data, synthetic
from haversack.convert.errors import UsageError
from haversack.convert.flexible import Flexible, Size, parsed, points
from haversack.convert.hub import OPSET
from haversack.convert.hub.shapes import bind, bind_batch, symbols
from haversack.convert.image_inputs import Image
from haversack.convert.publish import size
from haversack.convert.resizing import Resizing, sizes_of
from haversack.convert.sources import Source, read
from haversack.convert.verify.accuracy import Measure
from haversack.convert.verify.edges import model_specs
from haversack.convert.verify.execute import Progress, Samples, run_all
from haversack.convert.verify.reference import Reference, refer
from haversack.convert.verify.samples import hold
from haversack.runtimes.engines import Array
from haversack.runtimes.preprocess import Preprocess

Data = str | Path | Mapping[str, Array]

SYNTHETIC_SAMPLES = 16
"""How many made-up inputs stand in where no data is given."""

SEED = 20_240_229
"""Of the made-up inputs: the same for everyone, so that a result can be repeated."""


@dataclass
class Work:
    """One model on its way, and what its variants share.

    Attributes:
        path: The source file.
        source: What was read.
        bound: The hub graph with its batch bound to 1.
        preprocess: How images become inputs.
        calibration: Opened calibration data.
        sizes: Sizes of the symbolic dimensions: the default ones, and others that the model takes.
        flexible: Dimensions for which several sizes were asked.
        measure: What of artifacts is measured beside the source.
        images: Inputs that an artifact takes as images: made-up ones are of whole pixels.
    """

    path: Path
    source: Source
    bound: ir.Model
    preprocess: Preprocess | None
    calibration: Dataset | None = None
    sizes: tuple[dict[str, int], tuple[dict[str, int], ...]] | None = None
    flexible: Mapping[str, Flexible] = field(default_factory=dict)
    images: Mapping[str, Image] = field(default_factory=dict)
    measure: Measure = field(default_factory=Measure)
    _sized: ir.Model | None = None
    _compressed: dict[tuple[str, bool], Compressed] = field(default_factory=dict)
    _outputs: dict[str, dict[str, Array]] = field(default_factory=dict)
    _reference: Reference | None = None
    _observed: dict[bool, Observed] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        path: Path,
        preprocess: str | Path | Preprocess | None = None,
        dims: Mapping[str, Size] | None = None,
    ) -> Work:
        """Read the source into the hub, with the symbolic dimensions that `dims` names fixed.

        Raises:
            SourceError: The file is missing, damaged or of an unknown format.
            UsageError: `dims` names no symbolic dimension, or a size that it cannot have.
        """
        from haversack.convert.worker_stage import check_model

        check_model(path)
        prepare = read_preprocess(preprocess)
        source = read(path)
        fixed = {name: size for name, size in (dims or {}).items() if isinstance(size, int)}
        flexible = _flexible(
            source.model, {name: str(size) for name, size in (dims or {}).items() if name not in fixed}
        )
        if fixed:
            try:
                source = dataclasses.replace(source, model=bind(source.model, fixed))
            except ValueError as error:
                raise UsageError(f"--dim: {error}") from None
        return cls(path, source, bind_batch(source.model), prepare, flexible=flexible)

    @property
    def sized(self) -> ir.Model:
        """The hub graph with every symbolic dimension bound to its default size: a batch to 1."""
        if self._sized is None:
            default = self._sizes()[0]
            others = {name: default[name] for name in symbols(self.bound)}
            self._sized = bind(self.bound, others) if others else self.bound
        return self._sized

    def _sizes(self) -> tuple[dict[str, int], tuple[dict[str, int], ...]]:
        if self.sizes is None:
            self.sizes = sizes_of(self.source.model, {name: size.sizes[0] for name, size in self._open_flexible()})
        return self.sizes

    def _open_flexible(self) -> list[tuple[str, Flexible]]:
        """The flexible dimensions that `bound` leaves open: all but batches, which are 1 there."""
        return [(name, self.flexible[name]) for name in symbols(self.bound) if name in self.flexible]

    def resizing(self, compressed: Compressed, target: str) -> Resizing | None:
        """The model at other sizes, compressed alike; None where the target's artifact has one size.

        A TFLite file takes every size that the model does, a Core ML package those that were asked for.
        """
        if self._is_static() or target not in ("tflite", "coreml") or (target == "coreml" and not self.flexible):
            return None
        default, others = self._sizes()
        checked = others[-1:]
        if target == "coreml":
            looked, run = ([{**default, **row} for row in rows] for rows in points(self.flexible))
            others, checked = tuple(looked), tuple(run)
        names = symbols(self.source.model)
        batches = tuple(name for name in default if names[name])
        return Resizing(self.source.model, default, batches, others, compressed.repeat, checked, self.flexible)

    def open(self, data: Data | None) -> Dataset | None:
        """Open DATA, checked against the model's inputs.

        Raises:
            DataError: It does not fit.
        """
        if data is None:
            return None
        opened = open_data(data, model_specs(list(self.bound.graph.inputs)), self.preprocess)
        if self.sizes is None and symbols(self.bound):  # the data says which sizes are usual
            feeds, _ = next(iter(opened.batches(1)))
            given = {
                dim.value or f"{value.name}_{axis}": feeds[str(value.name)].shape[axis]
                for value in self.bound.graph.inputs
                for axis, dim in enumerate(value.shape or ())
                if isinstance(dim, ir.SymbolicDim)
            }
            for name, sizes in self._open_flexible():
                if not sizes.holds(given[name]):
                    raise UsageError(f"--dim {name}={sizes}: the data has {name}={given[name]}")
            self.sizes = sizes_of(self.source.model, given)
        return opened

    def samples(self, data: Data | None) -> Samples:
        """The samples to verify on: DATA, or made-up inputs where there is none."""
        return hold(self.open(data) or self.made_up(SYNTHETIC_SAMPLES))

    def made_up(self, count: int) -> Dataset:
        """Seeded synthetic inputs."""
        return synthetic(model_specs(list(self.sized.graph.inputs)), count, SEED, self.images)

    def compressed(self, recipe: Recipe, *, static: bool, progress: Progress | None = None) -> Compressed:
        """The hub graph after `recipe`, each made once: with static shapes, or with the source's own."""
        if not static and self._is_static():
            static = True
        key = (recipe.name, static)
        if key not in self._compressed:
            graph = self.sized if static else self.source.model
            if recipe.plan is not None:
                made, notes, repeat = apply_plan(
                    graph, recipe.plan, self.observed(progress, equalized=EQUALIZE in recipe.plan.methods)
                )
                self._compressed[key] = Compressed(made, tuple(notes), repeat)
            else:
                batches = None if self.calibration is None else (feeds for feeds, _ in self.calibration.batches(1))
                self._compressed[key] = compress_graph(graph, recipe, batches, progress)
        return self._compressed[key]

    def observed(self, progress: Progress | None = None, *, equalized: bool = False) -> Observed:
        """What calibration data says of the model, looked at once; nothing without data."""
        if equalized not in self._observed:
            data = self.calibration
            calls = None if data is None else lambda: (feeds for feeds, _ in data.batches(1))
            self._observed[equalized] = observe_model(self.sized, calls, progress, equalized=equalized)
        return self._observed[equalized]

    def forget(self, recipe: Recipe) -> None:
        """Let go of what was made by a recipe."""
        self._outputs.pop(recipe.name, None)
        for static in (False, True):
            self._compressed.pop((recipe.name, static), None)

    def reference(self, samples: Samples, progress: Progress | None = None) -> Reference:
        """The source executed on `samples`, once."""
        if self._reference is None or self._reference.samples is not samples:
            found = refer(self.path, self.source, self.bound, samples, progress)
            self._reference = dataclasses.replace(found, measure=self.measure)
            self._reference.measured(found.source)  # what cannot be measured is said before anything is made
            self._outputs.clear()
        return self._reference

    def compressed_outputs(self, recipe: Recipe, samples: Samples, progress: Progress | None) -> dict[str, Array]:
        """What the compressed hub graph computes on `samples`, once a recipe."""
        if recipe.name not in self._outputs:
            from haversack.convert.hub.evaluate import Evaluator

            graph = self.compressed(recipe, static=True).model
            phrase = f"running the {recipe.name} model"
            self._outputs[recipe.name] = run_all(Evaluator(graph).run, samples, progress, phrase)
        return self._outputs[recipe.name]

    def facts(self) -> described.Model:
        """What the model is, for a report."""
        graph = self.source.model.graph
        ops: dict[str, int] = {}
        for node in graph.all_nodes():
            ops[node.op_type] = ops.get(node.op_type, 0) + 1
        parameters = sum(v.const_value.size for v in graph.initializers.values() if v.const_value is not None)
        return described.Model(
            name=self.source.name,
            format=self.source.format,
            sha256=self.source.sha256,
            bytes=size(self.path),
            opset=OPSET,
            nodes=sum(ops.values()),
            ops=dict(sorted(ops.items())),
            parameters=int(parameters),
            inputs=tuple(described.Tensor(s.name, s.dtype, s.shape) for s in model_specs(list(graph.inputs))),
            outputs=tuple(described.Tensor(s.name, s.dtype, s.shape) for s in model_specs(list(graph.outputs))),
            notes=self.source.notes,
        )

    def _is_static(self) -> bool:
        values = self.source.model.graph.inputs
        return all(value.shape is not None and value.shape.is_static() for value in values)


def _flexible(model: ir.Model, texts: Mapping[str, str]) -> dict[str, Flexible]:
    """The dimensions for which several sizes are given, in the model's order.

    Raises:
        UsageError: A name is no symbolic dimension, a text no several sizes, or a batch cannot be 1.
    """
    known, found = symbols(model), {}
    for name in sorted(texts, key=lambda name: list(known).index(name) if name in known else -1):
        sizes = parsed(texts[name])
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "all its dimensions are fixed"
            raise UsageError(f"--dim: the model has no symbolic dimension {name!r}; {has}")
        if sizes is None:
            raise UsageError(f"--dim {name}={texts[name]}: write several sizes as 1..8, or 16,32,64")
        if known[name] and not sizes.holds(1):
            raise UsageError(f"--dim {name}={sizes}: a batch is verified sample by sample; let 1 be one of its sizes")
        found[name] = sizes
    return found


def read_preprocess(spec: str | Path | Preprocess | None) -> Preprocess | None:
    """The preprocessing that a preset's name or a file says.

    Raises:
        FeedError: Neither.
    """
    if spec is None or isinstance(spec, Preprocess):
        return spec
    return Preprocess.from_spec(str(spec))
