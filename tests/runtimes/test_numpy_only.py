"""The runtime imports NumPy and the standard library and nothing else; an engine imports its own vendor's library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RUNTIMES = Path(__file__).resolve().parents[2] / "runtimes" / "haversack" / "runtimes"
ENGINE_MODULES = {"haversack.runtimes.engines.litert", "haversack.runtimes.engines.onnxruntime"}

BLOCKER = """
import json, sys

class Blocker:
    allowed = {"numpy", "haversack", "runtimes"} | sys.stdlib_module_names
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in self.allowed or name.startswith("haversack.convert"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def modules() -> list[str]:
    names = []
    for path in sorted(RUNTIMES.rglob("*.py")):
        parts = path.relative_to(RUNTIMES).with_suffix("").parts
        names.append(".".join(["haversack.runtimes", *(part for part in parts if part != "__init__")]))
    return names


def blocked_run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", BLOCKER + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_module_imports_with_only_numpy() -> None:
    walked = [name for name in modules() if name not in ENGINE_MODULES]
    assert len(walked) > 20
    assert set(modules()) > ENGINE_MODULES
    code = (
        "import importlib\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "roots = {name.split('.')[0] for name in sys.modules} - Blocker.allowed\n"
        "print(json.dumps(sorted(root for root in roots if not root.startswith('_'))))"
    )
    assert json.loads(blocked_run(code, *walked)) == []


def test_the_blocker_blocks() -> None:
    code = (
        "import importlib\n"
        "found = []\n"
        "for name in ['PIL', 'onnx', 'haversack.convert', 'haversack.runtimes.engines.litert']:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError: found.append(name)\n"
        "print(json.dumps(found))"
    )
    assert json.loads(blocked_run(code)) == ["PIL", "onnx", "haversack.convert", "haversack.runtimes.engines.litert"]


def test_a_bundle_opens_with_only_numpy_and_says_which_engine_is_missing(bundle: Path) -> None:
    code = (
        "import haversack.runtimes as runtimes\n"
        "with runtimes.open_bundle(sys.argv[1]) as bundle: bundle.verify(); print(bundle.manifest.name)\n"
        "try: runtimes.load(sys.argv[1], variant='onnx-fp32')\n"
        "except runtimes.EngineError as error: print(error)"
    )
    name, error = blocked_run(code, str(bundle)).splitlines()
    assert name == "double"
    assert "needs the onnxruntime engine, which is not installed" in error


def test_loading_an_artifact_imports_one_engine(bundle: Path) -> None:
    code = (
        "import sys; from haversack.runtimes import load; load(sys.argv[1], variant='tflite-fp32'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "ai_edge_litert" in loaded
    assert not {"onnxruntime", "onnx", "coremltools", "tensorflow", "PIL", "pandas"} & loaded
    assert "haversack.convert" not in done.stdout.split()
