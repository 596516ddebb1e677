"""The `.ort` flatbuffer and the operator config of a reduced build of onnxruntime.

An `.ort` file holds a graph that is optimised already: onnxruntime does not fuse when it loads one. Measured on
keyword spotting and ResNet8, one saved at the basic level runs two to seven times slower than its `.onnx`; one saved
at the extended level runs an int8 model as fast. Above it lies the layout level, which blocks float convolutions by
the vector width of the machine that saves: such a file is wrong elsewhere, so it is never written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from haversack.convert.targets.ort.ort_bytes import canonical
from haversack.convert.targets.ort.shrink import operators

PORTABLE_DOMAINS = {"", "ai.onnx.ml", "com.microsoft"}
"""Operators that every build of onnxruntime with its contrib ops runs; `com.microsoft.nchwc` is one machine's."""


def write_ort(model: bytes, path: Path, *, fold: bool) -> set[tuple[str, str]]:
    """Save a serialized ONNX model in onnxruntime's own format.

    Args:
        model: The `.onnx` file's bytes.
        path: Where the `.ort` goes.
        fold: Whether constants may be computed now; False keeps compressed weights packed.

    Returns:
        (domain, operator) of every node in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "optimised.ort"
        _optimised(model, saved, fold=fold, form="ORT")
        content = canonical(saved.read_bytes())
        readable = Path(folder) / "optimised.onnx"
        _optimised(model, readable, fold=fold, form="ONNX")
        found = operators(onnx.load(readable).graph)
    foreign = {domain for domain, _ in found} - PORTABLE_DOMAINS
    assert not foreign, f"the optimised graph holds operators of {foreign}, which other machines lack"
    _open(content)
    path.write_bytes(content)
    return found


def _open(content: bytes) -> None:
    """Open an `.ort` file as a device does; it raises where the file is damaged."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _optimised(model: bytes, path: Path, *, fold: bool, form: str) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", form)
    options.log_severity_level = 4
    disabled = [] if fold else ["ConstantFolding"]
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)


def operator_config(found: set[tuple[str, str]], opsets: dict[str, int]) -> str:
    """The config of a reduced build: one line a domain, `domain;opset;Operator,Operator`.

    Args:
        found: (domain, operator) of every node that has to run.
        opsets: Version of each domain; 1 where it is not listed, which is the version of onnxruntime's own.
    """
    lines = []
    for domain in sorted({domain for domain, _ in found}):
        names = ",".join(sorted(op for each, op in found if each == domain))
        lines.append(f"{domain or 'ai.onnx'};{opsets.get(domain, 1)};{names}\n")
    return "".join(lines)
