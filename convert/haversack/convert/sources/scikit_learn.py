"""Reading scikit-learn estimators: `.skops` files, through skl2onnx.

A pickle (`.pkl`, `.joblib`) runs whatever code its author put into it while it is read, so it is refused. skops reads
a file's types before it builds anything. Beyond the types that skops trusts, three are allowed here; one of them is an
array of tree nodes that compiled code follows without looking, so `_check_trees` looks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haversack.convert.errors import SourceError

if TYPE_CHECKING:
    import onnx_ir as ir

ALLOWED = frozenset(
    {
        "sklearn.tree._tree.Tree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
"""Types that skops does not trust, and that hold numbers only."""

TARGET_OPSET = {"": 21, "ai.onnx.ml": 3}


def read_skops(path: Path) -> ir.Model:
    """Read a fitted estimator or pipeline; its input is one float32 array [samples, features] called `X`.

    Raises:
        SourceError: The extra `sklearn` is not installed, the file holds types that are not allowed, or skl2onnx has no
            converter for a step.
    """
    import onnx_ir as ir

    from haversack.convert.sources.classifiers import restate_outputs
    from haversack.convert.sources.onnx import NOTES, RESTATED

    estimator = open_estimator(path)
    features = getattr(estimator, "n_features_in_", None)
    if not isinstance(features, int | np.integer):
        raise SourceError(
            f"{path.name}: {type(estimator).__name__} is not fitted on an array of features; fit it first"
        )
    try:
        from skl2onnx import to_onnx
    except ImportError:
        raise SourceError(_needs(path)) from None
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = to_onnx(estimator, np.zeros((1, int(features)), np.float32), options=options,
                            target_opset=TARGET_OPSET)  # fmt: skip
    except Exception as error:  # skl2onnx raises its own, and whatever a converter meets
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise SourceError(f"{path.name}: skl2onnx cannot convert {type(estimator).__name__}: {reason}") from None
    restated, notes = restate_outputs(proto, path.name)
    model: ir.Model = ir.from_proto(proto)
    model.meta[RESTATED], model.meta[NOTES] = restated, notes
    return model


def open_estimator(path: Path) -> Any:
    """Load a `.skops` file whose types are all known and hold numbers.

    Raises:
        SourceError: They are not, the file is damaged, or skops is not installed.
    """
    try:
        import skops.io
    except ImportError:
        raise SourceError(_needs(path)) from None
    try:
        foreign = [name for name in skops.io.get_untrusted_types(file=path) if name not in ALLOWED]
        if foreign:
            raise SourceError(
                f"{path.name} holds types that are not scikit-learn's own numbers ({', '.join(foreign[:3])}); convert "
                "it where it was trained with skl2onnx, and give the .onnx"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another scikit-learn version: the numbers are compared anyway
            estimator = skops.io.load(path, trusted=sorted(ALLOWED))
    except SourceError:
        raise
    except Exception as error:  # zipfile's, json's, skops' own and NumPy's
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise SourceError(f"{path.name} is not a skops file that can be read: {reason}") from None
    _check_trees(estimator, path.name)
    return estimator


def _check_trees(estimator: Any, name: str) -> None:
    """Hold every tree's children and features against its size: compiled code follows them without looking.

    Raises:
        SourceError: One leads out of its tree, or back.
    """
    for tree in _trees(estimator, set()):
        nodes = np.arange(tree.node_count)
        inner = tree.children_left != -1
        for children in (tree.children_left, tree.children_right):
            if ((children[inner] <= nodes[inner]) | (children[inner] >= tree.node_count)).any():
                raise SourceError(f"{name} is damaged: a tree's node leads out of its tree")
        if ((tree.feature[inner] < 0) | (tree.feature[inner] >= tree.n_features)).any():
            raise SourceError(f"{name} is damaged: a tree asks for a feature that there is not")


def _trees(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if type(value).__name__ == "Tree" and type(value).__module__ == "sklearn.tree._tree":
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _trees(entry, seen)
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for entry in np.ravel(value) if isinstance(value, np.ndarray) else value:
            yield from _trees(entry, seen)
    elif type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__"):
        yield from _trees(vars(value), seen)


def _needs(path: Path) -> str:
    return f"{path.name}: reading .skops needs the extra sklearn: pip install 'haversack[sklearn]'"
