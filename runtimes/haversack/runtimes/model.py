"""A model, loaded once and called many times."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from haversack.runtimes.bundle import Bundle
from haversack.runtimes.engines import FOLDERS, Array, Engine, TensorSpec, open_engine
from haversack.runtimes.errors import BundleError, EngineError, FeedError
from haversack.runtimes.feeds import FeedCheck
from haversack.runtimes.golden import Check, check_golden
from haversack.runtimes.manifest import Manifest, Tensor, Tolerance, Variant
from haversack.runtimes.preprocess import Preprocess

Golden = Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]]


@dataclass(frozen=True)
class Facts:
    """What a bundle says of the variant that was loaded; empty for a bare artifact.

    Attributes:
        variant: Its entry in the manifest.
        manifest: The whole manifest.
        golden: Its golden vectors, in the model's names.
        folder: Where its artifact was extracted, removed by `close`; None where nothing was.
    """

    variant: Variant | None = None
    manifest: Manifest | None = None
    golden: Golden = ()
    folder: Path | None = field(default=None, compare=False)


class Model:
    """An artifact in its engine. Call it with inputs; close it, or use it as a context manager, when done.

    Inputs and outputs carry the model's names whatever the artifact calls them, with the artifact's dtypes and shapes.
    A model is not safe to call from two threads at once.

    Attributes:
        engine: What runs it.
        inputs: What it takes.
        outputs: What it gives.
        variant: Its entry in the bundle's manifest; None for a bare artifact.
        manifest: The bundle's manifest; None for a bare artifact.
        labels: Name of each class; None where it has none.
        preprocess: How an image becomes its input, as the bundle says, completed for this variant's input; left open
            where that takes no images (an int8 input among them), and None where the bundle says nothing.
    """

    def __init__(self, engine: Engine, facts: Facts = Facts()):
        self.engine = engine
        self.variant, self.manifest = facts.variant, facts.manifest
        self.labels = facts.manifest.labels if facts.manifest else None
        self.preprocess: Preprocess | None = facts.manifest.preprocess if facts.manifest else None
        self._golden, self._folder = facts.golden, facts.folder
        self.inputs, self._input_names = engine.inputs, None
        self.outputs, self._output_names = engine.outputs, None
        if facts.variant is not None and facts.manifest is not None:
            self.inputs, self._input_names = _renamed(engine.inputs, facts.variant.inputs, facts.manifest.inputs)
            self.outputs, self._output_names = _renamed(engine.outputs, facts.variant.outputs, facts.manifest.outputs)
        self.preprocess = _fitted(self.preprocess, self.inputs)
        self._check = FeedCheck(self.inputs)
        self._only = self.inputs[0].name if len(self.inputs) == 1 else None
        self._run: Callable[[Mapping[str, Array]], dict[str, Array]] = engine.run
        self._closed = False

    def __call__(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        """Check the inputs and run once.

        Args:
            inputs: One array an input, by name; or one array, where the model has one input.

        Returns:
            The outputs by name.

        Raises:
            FeedError: The inputs do not fit: names, shapes, dtypes, or values that are not finite.
            EngineError: The engine failed, or the model is closed.
        """
        if type(inputs) is not dict:  # the usual case costs no more than this
            inputs = self._mapping(inputs)
        self._check(inputs)
        if self._input_names is not None:
            inputs = {self._input_names[name]: value for name, value in inputs.items()}
        outputs = self._run(inputs)
        if self._output_names is not None:
            outputs = {name: outputs[own] for name, own in self._output_names.items()}
        return outputs

    def run_many(self, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Run once on each of `samples`, in as few trips as the engine can: a browser's cost more than most calls.

        Raises:
            FeedError: As for one call.
            EngineError: Likewise.
        """
        many = None if self._closed else getattr(self.engine, "run_many", None)
        if many is None:
            return [self(inputs) for inputs in samples]
        for inputs in samples:
            self._check(inputs)
        if self._input_names is not None:
            samples = [{self._input_names[name]: value for name, value in each.items()} for each in samples]
        found: list[dict[str, Array]] = many(samples)
        if self._output_names is not None:
            found = [{name: outputs[own] for name, own in self._output_names.items()} for outputs in found]
        return found

    def _mapping(self, inputs: Mapping[str, Array] | Array) -> Mapping[str, Array]:
        if isinstance(inputs, Mapping):
            return inputs
        if not isinstance(inputs, np.ndarray):
            raise FeedError(f"expected a dict of NumPy arrays or one array, found {type(inputs).__name__}")
        if self._only is None:
            names = ", ".join(spec.name for spec in self.inputs)
            raise FeedError(f"the model has the inputs {names}: give a dict of arrays, not one array")
        return {self._only: inputs}

    def check(self) -> Check:
        """Run the golden vectors of the bundle and compare; a bare artifact has none, and the result is then false.

        Raises:
            EngineError: The engine failed on one.
        """
        tolerance = self.variant.tolerance if self.variant else Tolerance()
        return check_golden(self, self._golden, tolerance)

    def close(self) -> None:
        """Let go of the engine and remove what was extracted."""
        if self._closed:
            return
        self._closed = True
        self._run = _closed
        del self.engine
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def __repr__(self) -> str:
        what = self.variant.id if self.variant else "artifact"
        return f"<Model {what}: {', '.join(spec.name for spec in self.inputs)}>"


def open_variant(bundle: Bundle, variant: Variant, threads: int, engine_name: str | None = None) -> Model:
    """Open one variant of a bundle in its engine, or in the one named, its hash checked.

    Raises:
        BundleError: It is damaged, or the artifact is not what the manifest says.
        EngineError: The engine is not installed or rejects it.
    """
    folder: Path | None = None
    try:
        if variant.file.path.endswith(FOLDERS):
            folder = Path(tempfile.mkdtemp(prefix="haversack-"))
            engine = open_engine(bundle.artifact(variant.id, into=folder), threads=threads, engine=engine_name)
        else:  # straight from the bundle, so nothing is left on the disk whatever happens
            content = bundle.artifact_bytes(variant.id)
            name = Path(variant.file.path).name
            engine = open_engine(name, threads=threads, content=content, engine=engine_name)
        return Model(engine, Facts(variant, bundle.manifest, bundle.golden(variant.id), folder))
    except BaseException:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _fitted(preprocess: Preprocess | None, inputs: Sequence[TensorSpec]) -> Preprocess | None:
    """The preprocessing completed for the one input; a variant whose axes were moved keeps its own layout."""
    if preprocess is None or len(inputs) != 1:
        return preprocess
    for candidate in (preprocess, replace(preprocess, layout=None)):
        with contextlib.suppress(FeedError):
            return candidate.fit(inputs[0].shape, inputs[0].dtype)
    return preprocess


def _renamed(
    found: Sequence[TensorSpec], own: Sequence[Tensor], model: Sequence[Tensor]
) -> tuple[tuple[TensorSpec, ...], dict[str, str] | None]:
    """The engine's tensors in the model's order and names, and the artifact's name by the model's (None: the same).

    Raises:
        BundleError: The artifact has other inputs or outputs than the manifest says.
    """
    by_name = {spec.name: spec for spec in found}
    if set(by_name) != {tensor.name for tensor in own}:
        raise BundleError(
            f"the artifact has {', '.join(by_name)} where the manifest says {', '.join(tensor.name for tensor in own)}"
        )
    for tensor in own:
        spec = by_name[tensor.name]
        if spec.dtype != tensor.dtype or len(spec.shape) != len(tensor.shape):
            raise BundleError(
                f"{tensor.name} is {spec.dtype} {list(spec.shape)} in the artifact, "
                f"{tensor.dtype} {list(tensor.shape)} in the manifest"
            )
    names = {wanted.name: tensor.name for wanted, tensor in zip(model, own, strict=True)}
    specs = tuple(replace(by_name[artifact_name], name=name) for name, artifact_name in names.items())
    return specs, None if all(name == other for name, other in names.items()) else names


def _closed(_: Mapping[str, Array]) -> dict[str, Array]:
    raise EngineError("the model is closed")
