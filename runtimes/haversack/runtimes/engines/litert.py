"""The LiteRT engine: runs `.tflite` files with `ai_edge_litert`, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.engines.quiet import one_line, quiet_stderr
from haversack.runtimes.errors import EngineError


class LitertEngine:
    """A TFLite model, loaded and allocated; see `haversack.runtimes.engines.Engine`.

    Inputs and outputs carry the names of the model's signature where it has exactly one, else those of its tensors;
    `run` takes either.

    Attributes:
        quantization: Scale and zero point of each integer input and output that has them, by name.
    """

    name = "litert"
    version: str = ai_edge_litert.__version__
    emulated = False

    def __init__(self, interpreter: Any, label: str):
        self._interpreter = interpreter
        self._label = label
        inputs = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        signatures = interpreter._get_full_signature_list()  # the public list drops the tensor indices
        signature = next(iter(signatures.values())) if len(signatures) == 1 else {"inputs": {}, "outputs": {}}
        input_names = _names(inputs, signature["inputs"])
        output_names = _names(outputs, signature["outputs"])
        self.inputs = tuple(map(_spec, input_names, inputs))
        self.outputs = tuple(map(_spec, output_names, outputs))
        self.quantization: dict[str, tuple[float, int]] = {
            name: detail["quantization"]
            for name, detail in zip(input_names + output_names, inputs + outputs, strict=True)
            if detail["quantization"][0] != 0
        }
        self._input_index = {detail["name"]: detail["index"] for detail in inputs}
        self._input_index |= {name: detail["index"] for name, detail in zip(input_names, inputs, strict=True)}
        self._output_index = [(name, detail["index"]) for name, detail in zip(output_names, outputs, strict=True)]
        self._shapes: dict[int, tuple[int, ...]] = {detail["index"]: tuple(detail["shape"]) for detail in inputs}
        self._static = all(isinstance(size, int) for spec in self.inputs for size in spec.shape)
        # Bound once: at a few microseconds a call, every attribute that is looked up shows.
        self._set, self._get, self._invoke = interpreter.set_tensor, interpreter.get_tensor, interpreter.invoke

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; a symbolic dimension takes the size it is fed with.

        Args:
            feeds: One array an input, of the exact dtype and a fitting shape.

        Returns:
            The outputs by name, copied out of the interpreter.

        Raises:
            EngineError: An input is missing or unknown, or the interpreter failed.
        """
        if len(feeds) != len(self.inputs):
            raise EngineError(self._expected(feeds))
        try:
            if not self._static:
                self._resize(feeds)
            for name, value in feeds.items():
                self._set(self._input_index[name], value)
            self._invoke()
            try:
                return {name: self._get(index) for name, index in self._output_index}
            except ValueError:  # LiteRT hands out no tensor of zero elements
                return {name: self._read(index) for name, index in self._output_index}
        except KeyError:
            raise EngineError(self._expected(feeds)) from None
        except (ValueError, RuntimeError) as error:
            self._forget_resize()
            raise EngineError(f"{self._label}: LiteRT failed: {one_line(error)}") from error

    def _read(self, index: int) -> Array:
        detail = self._interpreter._get_tensor_details(index, 0)
        return self._get(index) if detail["shape"].all() else np.zeros(detail["shape"], detail["dtype"])

    def _resize(self, feeds: Mapping[str, Array]) -> None:
        resized = False
        for name, value in feeds.items():
            index = self._input_index[name]
            if value.shape != self._shapes[index]:
                self._interpreter.resize_tensor_input(index, value.shape, strict=True)
                self._shapes[index] = value.shape
                resized = True
        if resized:
            self._interpreter.allocate_tensors()

    def _expected(self, feeds: Mapping[str, Array]) -> str:
        wanted = ", ".join(spec.name for spec in self.inputs)
        return f"{self._label}: expected the inputs {wanted}, found {', '.join(feeds) or 'none'}"

    def _forget_resize(self) -> None:
        """Read the shapes back, since a failed resize may or may not have taken effect."""
        self._shapes = {detail["index"]: tuple(detail["shape"]) for detail in self._interpreter.get_input_details()}


def open_artifact(
    path: str | Path | bytes,
    *,
    threads: int = 1,
    xnnpack: bool = True,
    reference_kernels: bool = False,
    preserve_all_tensors: bool = False,
    label: str | None = None,
) -> LitertEngine:
    """Load a `.tflite` model.

    Args:
        path: The file, or its bytes.
        threads: How many CPU threads one call may use.
        xnnpack: Let the XNNPACK delegate take the operators it knows, as LiteRT does by default.
        reference_kernels: Use the plain reference kernels, without delegates.
        preserve_all_tensors: Keep intermediate tensors readable through `_interpreter`; costs memory, and reaches
            only operators that no delegate took.
        label: What messages call it; by default the file's name.

    Raises:
        EngineError: The file cannot be read, is no TFLite model, or holds an operator that LiteRT does not have.
    """
    label = label or ("the TFLite model" if isinstance(path, bytes) else Path(path).name)
    source: dict[str, object] = {"model_content": path}
    if not isinstance(path, bytes):
        if not Path(path).is_file():
            raise EngineError(f"{label}: no such file: {path}")
        source = {"model_path": str(path)}
    if path == b"" or (not isinstance(path, bytes) and Path(path).stat().st_size == 0):
        raise EngineError(f"{label}: LiteRT rejects it: it is empty")
    resolver = OpResolverType.BUILTIN if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    if reference_kernels:
        resolver = OpResolverType.BUILTIN_REF
    with quiet_stderr() as caught:
        try:
            interpreter = Interpreter(
                **source,
                num_threads=threads,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=preserve_all_tensors,
            )
            interpreter.allocate_tensors()
            engine = LitertEngine(interpreter, label)
        except (ValueError, RuntimeError, TypeError) as error:
            printed = [line for line in caught().splitlines() if line.startswith("ERROR")]
            raise EngineError(f"{label}: LiteRT rejects it: {one_line(error, *printed[-1:])}") from error
    return engine


def _names(details: list[dict[str, Any]], signature: Mapping[str, int]) -> list[str]:
    """The signature's name of each tensor, or the tensor's own; two names of one tensor are given out in turn."""
    left = dict(signature)
    names = []
    for detail in details:
        match = next((name for name, index in left.items() if index == detail["index"]), None)
        if match is not None:
            del left[match]
        names.append(detail["name"] if match is None else match)
    return names


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    signature = detail["shape_signature"]
    sizes = signature if len(signature) else detail["shape"]
    shape = tuple(int(size) if size >= 0 else f"{name}_{axis}" for axis, size in enumerate(sizes))
    return TensorSpec(name=name, dtype=np.dtype(detail["dtype"]).name, shape=shape)
