"""PyTorch networks of `tests/networks`, exported both ways, through the TFLite target, beside onnxruntime.

    python -m benchmarks.pytorch_exports                 all of them, static and with a dynamic batch: a few minutes
    python -m benchmarks.pytorch_exports --network ViT --static
    python -m benchmarks.pytorch_exports --write docs/results.md

A row is one export: the nodes of the file and of the hub graph, the operators and TRANSPOSEs of the `.tflite`, its
bytes beside the file's, the error of a verified conversion (relative, the worst output), the spread (the first output's
standard deviation over its mean magnitude; below 0.1 the comparison would prove nothing), LiteRT's latency over
onnxruntime's (one thread, interleaved, onnxruntime with its default optimisations), and CPU seconds of the conversion
alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.latency import interleaved
from benchmarks.marks import write_between_marks
from haversack.convert import convert
from haversack.convert.hub.shapes import bind_batch
from haversack.convert.sources import read
from haversack.runtimes.engines import open_engine
from haversack.runtimes.errors import HaversackError

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "networks"
SAMPLES = 4


def module(name: str) -> ModuleType:
    """A module of `tests/networks`."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def operators(path: Path) -> Counter[int]:
    """How many operators of each code a `.tflite` holds, subgraphs included."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return Counter(codes[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators)


def row(networks: ModuleType, source: Path, name: str, label: str) -> str:
    """One line of the table."""
    import onnx
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    head, own = f"| {name} | {label} |", source.with_suffix(".tflite")
    start = time.process_time()
    try:
        convert(source, to="tflite", output=own, verify=False)
        converting = time.process_time() - start
        made = convert(source, to="tflite", output=own, force=True)
    except HaversackError as error:
        return f"{head} **failed**: {error} |"
    model = read(source).model
    nodes = len(onnx.load(source).graph.node)
    engines = {"litert": open_engine(own), "onnxruntime": open_engine(source)}
    feeds = [{"input": networks.sample(name, seed=seed).numpy()} for seed in range(SAMPLES)]
    calls = {key: (lambda engine=engine: engine.run(feeds[0])) for key, engine in engines.items()}
    outputs = np.concatenate([np.ravel(next(iter(engines["onnxruntime"].run(feed).values()))) for feed in feeds])
    latency = interleaved(calls, "onnxruntime", rounds=30, seconds=0.05)["litert"]
    error = max(output.max_relative for output in made.variant.verification.outputs)
    codes = operators(own)
    return (
        f"{head} {nodes} | {len(bind_batch(model).graph)} | {codes.total()} | {codes[BuiltinOperator.TRANSPOSE]} "
        f"| {own.stat().st_size:,} / {source.stat().st_size:,} | {error:.1e} "
        f"| {outputs.std() / np.abs(outputs).mean():.2f} "
        f"| {latency.ratio:.2f} ({latency.spread[0]:.2f}–{latency.spread[1]:.2f}) | {converting:.2f} |"
    )


def main() -> None:
    """Run the command line above."""
    networks, exports = module("architectures"), module("exports")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(networks.NETWORKS), action="append")
    parser.add_argument("--static", action="store_true", help="static shapes only")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks in FILE")
    asked = parser.parse_args()
    lines = [
        "| network | exporter | nodes | hub nodes | TFLite operators | TRANSPOSE | bytes TFLite / ONNX | error "
        "| spread | latency / onnxruntime (5–95 %) | CPU s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(asked.network or networks.NETWORKS):
            for exporter in exports.EXPORTERS:
                for batch in (False,) if asked.static else (False, True):
                    source = Path(folder) / f"{number}-{exporter}{'-batch' * batch}.onnx"
                    exports.export(networks, name, source, exporter, batch=batch)
                    lines.append(row(networks, source, name, exporter + ", dynamic" * batch))
                    print(lines[-1], flush=True)
    if asked.write:
        write_between_marks(asked.write, "\n".join(lines) + "\n", "pytorch-exports")


if __name__ == "__main__":
    main()
