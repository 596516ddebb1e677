"""Runs every cell of the kernel table on an older runtime, and tells where the minimum that is written is too low.

    python tests/tflite/old_runtimes.py 2.7.0 /path/to/python "LiteRT 1.0.1" /path/to/another/python

Each interpreter has tflite-runtime or ai-edge-litert of that release, and NumPy. Cells run in forked batches, so that a
kernel that crashes costs its own cell. Exit 1 if a cell that should run does not, or computes something else. Releases
that lost what an older one had are told too: a minimum cannot say that.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from kernel_cases import FAMILIES, Cell, cells

from haversack.convert.targets.tflite import runtimes
from haversack.convert.targets.tflite.kernels import KERNELS

RUNNER = """
import os, pickle, sys
import numpy as np
try:
    from tflite_runtime.interpreter import Interpreter, OpResolverType
except ImportError:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

PLAIN = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}

def run(data, feeds, options):
    try:
        interpreter = Interpreter(model_content=data, num_threads=1, **options)
        interpreter.allocate_tensors()
        return dict(interpreter.get_signature_runner("serving_default")(**feeds))
    except (ValueError, RuntimeError) as error:
        return str(error).strip()[:100]

def isolated(rows):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1), os.dup2(nowhere, 2)
        found = {name: [run(data, feeds, o) for o in ({}, PLAIN)] for name, data, feeds in rows}
        with os.fdopen(writing, "wb") as stream:
            pickle.dump(found, stream, 4)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    if answer:
        return pickle.loads(answer)
    if len(rows) == 1:
        return {rows[0][0]: ["crashed", "crashed"]}
    half = len(rows) // 2
    return {**isolated(rows[:half]), **isolated(rows[half:])}

rows, found = pickle.load(open(sys.argv[1], "rb")), {}
for start in range(0, len(rows), 64):
    found.update(isolated(rows[start : start + 64]))
pickle.dump(found, open(sys.argv[2], "wb"), 4)
"""


def every_cell() -> dict[str, Cell]:
    """All cells by name."""
    found = {}
    for code, kernel in KERNELS.items():
        forms = {"quantized": kernel.int8, "int4": kernel.int4, "quantized int16": kernel.int16}
        for dtype in (*sorted(kernel.plain), *(form for form, held in forms.items() if held)):
            found.update({cell.name: cell for cell in cells(code, dtype)} if code in FAMILIES else {})
    return found


def failures(release: str, python: str, given: dict[str, Cell]) -> tuple[int, dict[str, str]]:
    """How many cells say that they run on `release`, and those that do not."""
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder, "cells"), Path(folder, "found")
        asked.write_bytes(pickle.dumps([(name, cell.data, dict(cell.feeds)) for name, cell in given.items()], 4))
        subprocess.run([python, "-c", RUNNER, str(asked), str(told)], check=True)
        found = pickle.loads(told.read_bytes())
    promised, wrong = 0, {}
    for name, cell in given.items():
        least = (runtimes.minimum(cell.graph.operators) or "LiteRT 99").removeprefix("TensorFlow Lite ")
        if runtimes.age(least) > runtimes.age(release):
            continue
        promised += 1
        for what, result in zip(("XNNPACK", "no XNNPACK"), found[name], strict=True):
            fault = result if isinstance(result, str) else cell.fault(result)
            if fault is not None:
                wrong[f"{name}, {what}"] = fault
    return promised, wrong


def main() -> int:
    """Every release given."""
    given, status = every_cell(), 0
    for release, python in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        promised, wrong = failures(release, python, given)
        print(f"{release}: {promised} of {len(given)} cells promised, {len(wrong)} runs fail")
        kinds = defaultdict(list)
        for name, fault in wrong.items():
            kinds[name.split(" rank ")[0], fault].append(name)
        for (_, fault), names in kinds.items():
            print(f"  {len(names)} × {names[0]}: {fault}")
        status |= bool(wrong)
    return status


if __name__ == "__main__":
    sys.exit(main())
