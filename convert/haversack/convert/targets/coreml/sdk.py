"""coremltools, imported once, quietly and without the frameworks it looks for.

On import coremltools tries TensorFlow, PyTorch, scikit-learn and others, and registers converters for those it finds:
7.4 CPU-seconds instead of 1.6 where they are installed. Only its MIL builder and its writer are used here, so those
frameworks are hidden from the import system while it is imported.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

FRAMEWORKS = ("tensorflow", "torch", "sklearn", "xgboost", "libsvm", "executorch", "torchao", "onnx", "scipy", "PIL")
"""What coremltools tries to import, and does without where it is absent."""


@contextmanager
def hidden(names: tuple[str, ...] = FRAMEWORKS) -> Iterator[None]:
    """Make `import name` fail for `names`; modules that are loaded already come back afterwards.

    A None in `sys.modules` is the import system's own mark for a module that must not be found.
    """
    saved = {name: sys.modules[name] for name in names if name in sys.modules}
    blocked: dict[str, Any] = dict.fromkeys(names)
    sys.modules.update(blocked)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(saved)


@functools.cache
def load() -> ModuleType:
    """Import coremltools and return it; its warnings about absent frameworks and libraries are not shown."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with hidden():
        coremltools = importlib.import_module("coremltools")
        passes: Any = importlib.import_module("coremltools.converters.mil.mil.passes.pass_pipeline")
    passes.tqdm = functools.partial(passes.tqdm, disable=True)  # progress bars of a few milliseconds
    return coremltools
