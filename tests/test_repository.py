"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = ("convert", "runtimes", "demo")
LONGEST = 450


def modules(root: str) -> Iterator[Path]:
    return (ROOT / root / "haversack").rglob("*.py")


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, at the top or later."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_haversack_is_a_namespace() -> None:
    assert [str(ROOT / root / "haversack/__init__.py") for root in SOURCE_ROOTS
            if (ROOT / root / "haversack/__init__.py").exists()] == []  # fmt: skip


@pytest.mark.parametrize(("root", "forbidden"), [
    ("runtimes", ("haversack.convert", "haversack.demo")),
    ("convert", ("haversack.demo.",)),
])  # fmt: skip
def test_imports_go_one_way(root: str, forbidden: tuple[str, ...]) -> None:
    wrong = [f"{path.relative_to(ROOT)}: {name}" for path in modules(root) for name in imported(path)
             if name.startswith(forbidden)]  # fmt: skip
    assert wrong == []


def test_public_names() -> None:
    import haversack.convert
    import haversack.runtimes

    assert sorted(haversack.convert.__all__) == [
        "Checked", "Conversion", "Diagnosis", "Inspection", "Pack", "convert", "diagnose", "inspect", "pack",
        "verify_artifact",
    ]  # fmt: skip
    assert sorted(haversack.runtimes.__all__) == [
        "Bundle", "BundleError", "Check", "EngineError", "FeedError", "HaversackError", "Manifest", "Model",
        "Preprocess", "TensorSpec", "Variant", "load", "open_bundle",
    ]  # fmt: skip


def test_files_are_one_idea() -> None:
    files = [path for root in (*SOURCE_ROOTS, "benchmarks") for path in (ROOT / root).rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_nothing_is_pinned_and_the_lock_names_no_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    assert [each for each in asked if "==" in each] == []
    locked = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert locked
    assert [line for line in locked if not re.fullmatch(r"[a-z0-9._-]+==[^\s/]+( ; .*)?", line)] == []


def test_every_op_lowers_on_both_sides_or_says_why_not() -> None:
    from haversack.convert.targets.gaps import GAPS
    from haversack.convert.targets.registry import registries

    lowered = {target: set(registry.ops()) for target, registry in registries().items()}
    everything = set().union(*lowered.values())
    for target, ops in lowered.items():
        assert everything - ops == set(GAPS[target]) - ops
        assert not ops & set(GAPS[target]), "a gap that has been filled"
        assert all(len(reason) > 10 for reason in GAPS[target].values())


@pytest.mark.slow
def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["haversack.convert.cli", "haversack.convert.worker_client"])
def test_the_command_line_imports_no_engine(module: str) -> None:
    heavy = {"numpy", "onnx", "onnx_ir", "onnxruntime", "ai_edge_litert", "coremltools", "tensorflow", "pydantic"}
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()
