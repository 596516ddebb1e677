"""Small MIL programs, built and saved by coremltools, for the evaluator to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.runtimes.engines.coreml import Evaluator, read_package

Evaluate = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def coremltools() -> Any:
    return pytest.importorskip("coremltools")


@pytest.fixture
def save(coremltools: Any, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that builds a program from a body and named inputs, and saves it as a package.

    Precision is as the body declares it: nothing is converted to float16.
    """
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    def build(body: Callable[..., Any], inputs: Mapping[str, np.ndarray], target: str = "iOS17") -> Path:
        specs = [
            mb.TensorSpec(shape=value.shape, dtype=types.numpy_type_to_builtin_type(value.dtype))
            for value in inputs.values()
        ]

        names = ", ".join(inputs)
        scope: dict[str, Any] = {"body": body, "mb": mb}
        exec(f"def program({names}):\n    return body(mb, {names})", scope)  # the program's inputs are the names
        program = mb.program(input_specs=specs, opset_version=coremltools.target[target])(scope["program"])
        model = coremltools.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target[target],
            pass_pipeline=coremltools.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        path = tmp_path / f"model_{len(list(tmp_path.iterdir()))}.mlpackage"
        model.save(str(path))
        return path

    return build


@pytest.fixture
def evaluate(save: Callable[..., Path]) -> Evaluate:
    """Return a function that saves a program, reads it back and runs it; the outputs come in order of the program."""

    def run(body: Callable[..., Any], inputs: Mapping[str, np.ndarray], target: str = "iOS17") -> list[np.ndarray]:
        evaluator = Evaluator(read_package(save(body, inputs, target)))
        return list(evaluator.run(inputs).values())

    return run
