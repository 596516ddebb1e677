"""What a build of onnxruntime that runs one `.ort` alone keeps, as far as it can be known without building it."""

from __future__ import annotations

from haversack.convert.deployment import ReducedBuild

FLAGS = (
    "--config MinSizeRel",
    "--minimal_build",
    "--include_ops_by_config FILE",
    "--enable_reduced_operator_type_support",
    "--disable_exceptions",
    "--disable_rtti",
    "--skip_tests",
)
"""Of onnxruntime's build script, from its page on custom builds. `--minimal_build extended` keeps NNAPI and Core ML."""

NO_ML = "--disable_ml_ops"
"""For models without operators of `ai.onnx.ml`."""

KNOWN = (
    "what the library weighs is known after building it; documented for Android on 64-bit ARM: 12.2 MB with all "
    "operators, 3.2 MB with about a hundred for float and 8-bit integers (onnxruntime 1.13.1)"
)
"""From the tutorial on mobile deployment, as quoted in microsoft/onnxruntime pull request 21605."""


def reduced_build(config: str, name: str) -> ReducedBuild:
    """Count what an operator config keeps.

    Args:
        config: Its text.
        name: Its file's name.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    needed = _needed(config)
    kernels = [each for each in state.get_all_opkernel_def() if each.provider == "CPUExecutionProvider"]
    kept = 0
    for kernel in kernels:
        first, last = kernel.version_range
        domain = kernel.domain or "ai.onnx"
        kept += any(first <= version <= last for version in needed.get((domain, kernel.op_name), ()))
    machine_learning = any(domain == "ai.onnx.ml" for domain, _ in needed)
    flags = tuple(flag.replace("FILE", name) for flag in FLAGS) + (() if machine_learning else (NO_ML,))
    return ReducedBuild(name, len(needed), kept, len(kernels), flags, KNOWN)


def _needed(config: str) -> dict[tuple[str, str], set[int]]:
    """(domain, operator) and the versions of it that are asked for."""
    found: dict[tuple[str, str], set[int]] = {}
    for line in config.splitlines():
        domain, versions, operators = line.split(";", 2)
        for name in _names(operators):
            found.setdefault((domain, name), set()).update(int(version) for version in versions.split(","))
    return found


def _names(operators: str) -> list[str]:
    """The operators of a line, without the types in braces behind some."""
    names, depth = [""], 0
    for letter in operators:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and not depth:
            names.append("")
        elif not depth and letter != "}":
            names[-1] += letter
    return [name.strip() for name in names]
