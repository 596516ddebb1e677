"""The `.ort` flatbuffer and the operator config of a reduced build of onnxruntime.

An `.ort` file holds a graph that is optimised already: a minimal build of onnxruntime does not fuse when it loads one.
The levels, from onnxruntime's documentation of its graph optimisations and measured on keyword spotting and ResNet8
(int8, one thread, x86, against the `.onnx` that onnxruntime optimises as it loads it; paired runs):

    disabled, basic   valid ONNX everywhere                                     3.7 and 6.7 times as slow
    extended          fused operators of `com.microsoft`, for the CPU only      1.09 and 1.20 in a minimal build
    all but NCHWc     integer convolutions channels-last, Conv + Add + Relu     1.01 and 1.00 in a minimal build
    all (NCHWc)       float convolutions blocked by the vector width of the machine that saves: wrong elsewhere

So the `.ort` is saved at the third, as onnxruntime's own conversion script does for devices, and the fourth is never
written. What compiles parts of a graph for an accelerator (NNAPI, Core ML, QNN) knows none of the fused operators: it
is given the `.onnx`. Packed weights (float16, int8-weights) stay packed at the second level only.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from haversack.convert.targets.ort.ort_bytes import canonical

MACHINE_DEPENDENT = "NchwcTransformer"
"""The optimiser whose result holds for the vector width of this machine only."""

PORTABLE_DOMAINS = {"ai.onnx", "ai.onnx.ml", "com.microsoft"}
"""Operators that every build of onnxruntime with its contrib ops runs; `com.microsoft.nchwc` is one machine's."""


def write_ort(model: bytes, path: Path, *, fold: bool) -> None:
    """Save a serialized ONNX model in onnxruntime's own format.

    Args:
        model: The `.onnx` file's bytes.
        path: Where the `.ort` goes.
        fold: Whether constants may be computed now; False keeps compressed weights packed.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "optimised.ort"
        optimised(model, saved, fold=fold, form="ORT")
        content = canonical(saved.read_bytes())
        found = _operators(saved)
    foreign = {domain for domain, _ in found} - PORTABLE_DOMAINS
    assert not foreign, f"the optimised graph holds operators of {foreign}, which other machines lack"
    _open(content)
    path.write_bytes(content)


def _operators(path: Path) -> set[tuple[str, str]]:
    """(domain, operator) of every node of an `.ort` file, subgraphs included; ONNX's own domain is `ai.onnx`."""
    processor, _ = _format_tools()
    found: dict[str, dict[int, set[str]]] = {}
    processor(str(path), found, None).process()
    return {(domain, op) for domain, versions in found.items() for ops in versions.values() for op in ops}


def _open(content: bytes) -> None:
    """Open an `.ort` file as a device does; it raises where the file is damaged."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def optimised(model: bytes, path: Path, *, fold: bool, form: str, basic: bool = False) -> None:
    """Let onnxruntime optimise a model for any device's CPU, and save it.

    Args:
        model: The `.onnx` file's bytes.
        path: Where to.
        fold: Whether constants may be computed.
        form: `ORT` or `ONNX`.
        basic: Only what comes before the graph is split among execution providers: it stays plain ONNX.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    # The last level folds constants even where it is told not to.
    full = levels.ORT_ENABLE_ALL if fold else levels.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if basic else full
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", form)
    options.log_severity_level = 4
    disabled = [MACHINE_DEPENDENT] if fold else [MACHINE_DEPENDENT, "ConstantFolding"]
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)


def operator_config(files: Sequence[Path]) -> str:
    """The config of a build of onnxruntime that runs these `.ort` files and nothing else.

    One line a domain and opset, `domain;opset;Operator{types},Operator`: what onnxruntime's build reads with
    `--include_ops_by_config`, and the types with `--enable_reduced_operator_type_support`.

    Args:
        files: `.ort` files.
    """
    processor, manager = _format_tools()
    needed: dict[str, dict[int, set[str]]] = {}
    types = manager()
    for file in files:
        processor(str(file), needed, types).process()
    return "".join(
        f"{domain};{version};{','.join(op + (types.get_config_entry(domain, op) or '') for op in sorted(ops))}\n"
        for domain, versions in sorted(needed.items())
        for version, ops in sorted(versions.items())
    )


def _format_tools() -> tuple[Any, Any]:
    """The reader that onnxruntime has of `.ort` files, and its record of the types of each operator.

    Importing them sets up the root logger, which is its owner's: it is put back.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from onnxruntime.tools.ort_format_model import OperatorTypeUsageManager, OrtFormatModelProcessor

    root.handlers[:] = handlers
    root.setLevel(level)
    return OrtFormatModelProcessor, OperatorTypeUsageManager
