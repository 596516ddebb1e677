"""Which precisions kernels reward: latency of layers in each precision over float32, by engine.

    python -m benchmarks.kernel_rewards                          three sizes, about six minutes on a quiet core
    python -m benchmarks.kernel_rewards --quick                  the middle size alone
    python -m benchmarks.kernel_rewards --write docs/results.md  put the table between the file's `rewards` marks
    python -m benchmarks.kernel_rewards --save                   keep the numbers in targets/<target>/rewards.py

Four equal layers with Relus between them, so that the float edges weigh little, at three sizes; one thread, all
precisions of a case taking turns. A number is the median over rounds of the ratio to float32 in the same engine, the
median of the sizes in the table. Palettes under int8 run in int8's own kernels (they are unpacked at load, or written
out) and are not listed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from benchmarks.latency import interleaved
from benchmarks.marks import write_between_marks
from haversack.convert.compress import compress
from haversack.convert.compress.mixed import apply_plan, observe_model
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.compress.recipes import Recipe
from haversack.convert.targets import Options, open_target
from haversack.runtimes.engines import Array, open_engine

SIZES = {
    "convolution": ((16, 32), (32, 16), (64, 8)),
    "pointwise": ((32, 32), (64, 16), (128, 8)),
    "depthwise": ((32, 32), (64, 16), (128, 8)),
    "dense": ((64, 1), (256, 1), (1024, 1)),
}
"""Channels and spatial size."""

PRECISIONS = ("float32", "float16", "int8", "int8-int4", "int16", "int8-weights", "int4-weights", "int4-block16",
              "palette4")  # fmt: skip
TARGETS = {"tflite": "LiteRT", "onnx": "onnxruntime"}
DEPTH = 4


def layers(kind: str, channels: int, size: int) -> tuple[ir.Model, list[dict[str, Array]]]:
    """Four layers of one kind, and calibration data."""
    random = np.random.default_rng(channels)
    arrays, nodes, last = {}, [], "x"
    shape = {
        "convolution": (channels, channels, 3, 3),
        "pointwise": (channels, channels, 1, 1),
        "depthwise": (channels, 1, 3, 3),
        "dense": (channels, channels),
    }[kind]
    for number in range(DEPTH):
        arrays[f"w{number}"] = (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        arrays[f"b{number}"] = (random.normal(size=channels) / 10).astype(np.float32)
        given = [last, f"w{number}", f"b{number}"]
        if kind == "dense":
            nodes.append(helper.make_node("Gemm", given, [f"c{number}"], transB=1, name=f"layer{number}"))
        else:
            pads = {} if kind == "pointwise" else {"pads": [1, 1, 1, 1]}
            group = {"group": channels} if kind == "depthwise" else {}
            nodes.append(helper.make_node("Conv", given, [f"c{number}"], name=f"layer{number}", **pads, **group))
        last = f"r{number}"
        nodes.append(helper.make_node("Relu", [f"c{number}"], [last], name=f"relu{number}"))
    whole = (1, channels) if kind == "dense" else (1, channels, size, size)
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, whole)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, whole)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
    return model, [{"x": random.normal(size=whole).astype(np.float32)} for _ in range(8)]


def stored(model: ir.Model, precision: str, feeds: list[dict[str, Array]]) -> tuple[ir.Model, str]:
    """The layers in a precision, and the recipe that a target is told."""
    if precision in ("int8", "int8-int4", "int16"):
        arithmetic = "int16" if precision == "int16" else "int8"
        plan = Plan(precision, arithmetic=arithmetic, default=LayerPlan("int4" if precision == "int8-int4" else "int8"))
        return apply_plan(model, plan, observe_model(model, lambda: feeds))[0], arithmetic
    recipe = {"float32": "fp32", "float16": "fp16"}.get(precision, precision)
    return compress(model, Recipe(recipe), feeds).model, recipe


def measured(folder: Path, rounds: int, quick: bool) -> Iterator[tuple[str, str, str, float]]:
    """(target, kind, precision, the median over sizes of the ratio to float32)."""
    for target in TARGETS:
        held = open_target(target)
        for kind, sizes in SIZES.items():
            ratios: dict[str, list[float]] = {}
            for channels, size in sizes[1:2] if quick else sizes:
                model, feeds = layers(kind, channels, size)
                calls: dict[str, Callable[[], object]] = {}
                known = held.precisions(next(iter(model.graph)))
                for precision in (name for name in PRECISIONS if name in known):
                    made, recipe = stored(model, precision, feeds)
                    path = folder / f"{target}-{kind}-{channels}-{precision}{held.suffix}"
                    options = Options(io_layout="channels-last" if target == "tflite" else "keep", ort_format=False)
                    engine = open_engine(held.write(made, recipe, path, options).path)
                    given = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
                    calls[precision] = lambda engine=engine, given=given: engine.run(given)
                for name, latency in interleaved(calls, "float32", rounds=rounds, seconds=0.01).items():
                    ratios.setdefault(name, []).append(latency.ratio)
            for precision, found in ratios.items():
                yield target, kind, precision, float(np.median(found))


def table(rows: list[tuple[str, str, str, float]]) -> str:
    """The numbers in Markdown."""
    values = {(target, kind, precision): ratio for target, kind, precision, ratio in rows}
    columns = [(target, kind) for target in TARGETS for kind in SIZES]
    lines = [
        "| precision | " + " | ".join(f"{TARGETS[target]} {kind}" for target, kind in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for precision in PRECISIONS:
        cells = (values.get((target, kind, precision)) for target, kind in columns)
        lines.append(f"| {precision} | " + " | ".join("–" if c is None else f"{c:.2f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def module(target: str, rows: list[tuple[str, str, str, float]]) -> str:
    """The text of `rewards.py`."""
    lines = [
        f'"""Latency over float32 in {TARGETS[target]}, by kind of layer and precision: `benchmarks.kernel_rewards` '
        'wrote this."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "RATIOS: Final[dict[str, dict[str, float]]] = {",
    ]
    for kind in SIZES:
        lines.append(f'    "{kind}": {{')
        lines += [f'        "{p}": {ratio:.2f},' for t, k, p, ratio in rows if (t, k) == (target, kind)]
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="the middle size alone")
    parser.add_argument("--write", type=Path, help="a Markdown file with the marks <!-- rewards -->")
    parser.add_argument("--save", action="store_true", help="write targets/<target>/rewards.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measured(Path(folder), options.rounds, options.quick))
    text = table(rows)
    print(text)
    if options.write:
        write_between_marks(options.write, text, "rewards")
    if options.save:
        targets = Path(__file__).resolve().parents[1] / "convert" / "haversack" / "convert" / "targets"
        for target, folder_name in (("tflite", "tflite"), ("onnx", "ort")):
            (targets / folder_name / "rewards.py").write_text(module(target, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
