"""A classifier's `.onnx` executed as it is, dictionaries and names included, and its results as the hub has them.

The artifact is held against this, so that taking a ZipMap away is checked and not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from haversack.convert.sources.classifiers import Restated
from haversack.convert.verify.execute import Run
from haversack.runtimes.engines import Array
from haversack.runtimes.engines.quiet import one_line, quiet_stderr
from haversack.runtimes.errors import EngineError


def open_classifier(path: Path, outputs: tuple[str, ...], restated: Mapping[str, Restated]) -> tuple[Run, str]:
    """Open a source whose outputs were restated.

    Args:
        path: The `.onnx` file.
        outputs: The model's outputs, by name.
        restated: Those that the file has otherwise.

    Raises:
        EngineError: onnxruntime rejects the file.
    """
    with quiet_stderr():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with quiet_stderr():
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise EngineError(f"{path.name}: onnxruntime rejects it: {one_line(str(error))}") from error

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        results = session.run(list(outputs), dict(sample))
        return {name: _tensor(value, restated.get(name)) for name, value in zip(outputs, results, strict=True)}

    return run, f"onnxruntime {onnxruntime.__version__}"


def _tensor(value: Any, restated: Restated | None) -> Array:
    if restated is None:
        return np.asarray(value)
    if restated.kind == "scores":
        return np.array([[row[label] for label in restated.classes] for row in value], np.float32)
    index = {label: number for number, label in enumerate(restated.classes)}
    names = np.asarray(value)
    return np.array([index[str(label)] for label in names.ravel()], np.int64).reshape(names.shape)
