"""A scikit-learn estimator executed by scikit-learn, its results under the names that skl2onnx gives them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from haversack.convert.errors import SourceError
from haversack.convert.sources.classifiers import Restated
from haversack.convert.sources.scikit_learn import open_estimator
from haversack.convert.verify.execute import Run
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import EngineError


def open_skops(
    path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], restated: Mapping[str, Restated]
) -> tuple[Run, str]:
    """Open a `.skops` file.

    Args:
        path: The file.
        inputs: The one input's name.
        outputs: The model's outputs: a label and class probabilities, or one result.
        restated: Labels that the estimator has as strings.

    Raises:
        EngineError: The file cannot be read, or the estimator's methods give other results than these outputs.
    """
    import sklearn

    try:
        estimator = open_estimator(path)
    except SourceError as error:
        raise EngineError(str(error)) from None
    methods = _methods(estimator, outputs)

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        x = sample[inputs[0]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = {name: np.asarray(getattr(estimator, method)(x)) for name, method in methods.items()}
        return {name: _numbers(value, restated.get(name)) for name, value in results.items()}

    return run, f"scikit-learn {sklearn.__version__}"


def _methods(estimator: Any, outputs: tuple[str, ...]) -> dict[str, str]:
    if outputs == ("label", "probabilities") and hasattr(estimator, "predict_proba"):
        return {"label": "predict", "probabilities": "predict_proba"}
    if len(outputs) == 1 and outputs != ("label",):
        for method in ("predict", "transform"):
            if hasattr(estimator, method):
                return {outputs[0]: method}
    names = ", ".join(outputs)
    raise EngineError(f"no methods of {type(estimator).__name__} are known to give its outputs {names} one by one")


def _numbers(value: Array, restated: Restated | None) -> Array:
    if restated is None:
        return value
    index = {label: number for number, label in enumerate(restated.classes)}
    return np.array([index[str(label)] for label in value.ravel()], np.int64).reshape(value.shape)
