"""Networks of `keras.applications` and the PyTorch networks of `tests/networks` through the Core ML target.

    python -m benchmarks.coreml_networks                     all of them, about half an hour on two cores
    python -m benchmarks.coreml_networks --network MobileNetV2 --network ViT

Every figure is *reference-evaluated*: the package is read back and its program executed by Haversack's evaluator, not
by an Apple device. A row is one `.onnx` file, by fp32 and by fp16: MIL operations, constants not counted, and bytes of
the fp32 package; the error of each verified conversion (relative to onnxruntime on the file, the worst output; in
brackets how many layers fp16 had to compute in float32 for it); the spread (the first output's standard deviation over
its mean magnitude; below 0.1 the comparison would prove nothing); and CPU seconds of the fp32 conversion alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import keras_applications, pytorch_exports
from benchmarks.marks import write_between_marks
from haversack.convert import convert
from haversack.convert.publish import size
from haversack.convert.report import Variant
from haversack.convert.targets.coreml import sdk
from haversack.runtimes.engines import Array, open_engine
from haversack.runtimes.engines.coreml.program import Block, read_package
from haversack.runtimes.errors import HaversackError


def operations(block: Block) -> int:
    """How many operations a block holds, those of nested blocks included."""
    return sum(
        (operation.type != "const") + sum(operations(inner) for inner in operation.blocks)
        for operation in block.operations
    )


def error(variant: Variant) -> str:
    """The largest relative error of a verified artifact's outputs, and how many layers it holds in float32."""
    kept = [note.split(" layers compute", 1)[0] for note in variant.notes if "compute in float32" in note]
    worst = max(output.max_relative for output in variant.verification.outputs)
    return f"{worst:.1e}" + (f" ({kept[0]} in float32)" if kept else "")


def row(label: str, source: Path, inputs: dict[str, Array]) -> str:
    """One line of the table."""
    package = source.with_suffix(".mlpackage")
    errors: list[str] = []
    start = time.process_time()
    try:
        convert(source, to="coreml", output=package, verify=False)
    except HaversackError as failure:
        return f"| {label} | **failed**: {failure} |"
    converting = time.process_time() - start
    program = read_package(package)
    count = operations(program.functions[program.default_function].block)
    held = size(package)
    for recipe in ("fp32", "fp16"):
        try:
            made = convert(source, to="coreml", compress=recipe, output=package, inputs=inputs, force=True)
        except HaversackError as failure:
            errors.append(f"**failed**: {failure}")
        else:
            errors.append(error(made.variant))
    engine = open_engine(source)
    samples = len(next(iter(inputs.values())))
    feeds = [{name: array[index : index + 1] for name, array in inputs.items()} for index in range(samples)]
    outputs = np.concatenate([np.ravel(next(iter(engine.run(each).values()))) for each in feeds])
    spread = outputs.std() / np.abs(outputs).mean()
    return f"| {label} | {count} | {held:,} | {' | '.join(errors)} | {spread:.2f} | {converting:.2f} |"


def rows(asked: list[str], folder: Path) -> Iterator[str]:
    """The lines of the table, each as soon as it is measured."""
    networks, exports = pytorch_exports.module("architectures"), pytorch_exports.module("exports")
    for number, name in enumerate(networks.NETWORKS):
        if name not in asked:
            continue
        samples = [networks.sample(name, seed=seed).numpy() for seed in range(pytorch_exports.SAMPLES)]
        for exporter in exports.EXPORTERS:
            source = folder / f"{number}-{exporter}.onnx"
            exports.export(networks, name, source, exporter)
            yield row(f"{name}, {exporter}", source, {"input": np.concatenate(samples)})
    for name in keras_applications.NAMES:
        if name in asked:
            try:
                exported = keras_applications.export(name, folder)
            except HaversackError as failure:
                yield f"| {name} | **failed**: {failure} |"
            else:
                yield row(name, exported.onnx, exported.inputs)


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*pytorch_exports.module("architectures").NETWORKS, *keras_applications.NAMES]
    parser.add_argument("--network", choices=known, action="append")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks in FILE")
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sdk.load()  # its import is no part of a conversion's time
    lines = [
        "| network | MIL operations | bytes | fp32 error | fp16 error | spread | CPU, s |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        for line in rows(asked.network or known, Path(folder)):
            lines.append(line)
            print(line, flush=True)
    if asked.write:
        write_between_marks(asked.write, "\n".join(lines) + "\n", "coreml-networks")


if __name__ == "__main__":
    main()
