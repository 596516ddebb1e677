"""What one `haversack convert` costs from a fresh process, its worker included.

    python -m benchmarks.fresh_process
    python -m benchmarks.fresh_process --write docs/results.md

converts a model of one addition, ResNet8 (from its Keras file, read once beforehand into an `.onnx`), and a MobileNetV2
and a ResNet-50 of 224 x 224 with random weights, without and with verification. CPU is user + system of the command
and its worker, as the kernel accounts them to `wait4`.
The line below the table says whether TensorFlow and PyTorch are installed where it ran: coremltools imports them if it
finds them, and Haversack hides them from it (`targets/coreml/sdk.py`), so neither should cost anything. Where they are
not, run it in an environment of its own:

    uv venv plain && uv pip install --python plain/bin/python --compile-bytecode -e .
    plain/bin/python -m benchmarks.fresh_process --models resnet50 --targets coreml

Memory is the peak resident size of the largest process plus that of the waiting command line (measured on
`haversack --version`), an upper bound of what both held at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.marks import write_between_marks

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Cost:
    """What one process and those it waited for took.

    Attributes:
        cpu: User and system seconds.
        wall: Seconds.
        peak: Resident MiB of the largest of them.
    """

    cpu: float
    wall: float
    peak: float


def cost(arguments: list[str]) -> Cost:
    """Run a command to its end; an exit code other than 0 ends the benchmark."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}: {said}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def resnet8(folder: Path) -> Path:
    """MLPerf Tiny's ResNet8 as `.onnx`."""
    import onnx_ir as ir

    from haversack.convert.sources import read

    path = folder / "resnet8.onnx"
    ir.save(read(DATA / "mlperf_tiny" / "resnet8.h5").model, path)
    return path


def mobilenet_v2(folder: Path) -> Path:
    """MobileNetV2 as `keras.applications` builds it, with random weights and normalisation statistics, as `.onnx`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np
    import onnx_ir as ir

    from haversack.convert.sources import read

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, size),
                    rng.normal(0, 0.1, size),
                    rng.normal(0, 0.1, size),
                    rng.uniform(0.5, 1.5, size),
                ]
            )
    saved, path = folder / "mobilenet_v2.keras", folder / "mobilenet_v2.onnx"
    model.save(saved)
    ir.save(read(saved).model, path)
    return path


def trivial(folder: Path) -> Path:
    """One addition of four numbers, as `.onnx`."""
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y", "z")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "y"], ["z"])], "trivial", ends[:2], ends[2:])
    path = folder / "trivial.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


def resnet50(folder: Path) -> Path:
    """ResNet-50 v1 (He et al., 2015, table 1; 25.6 million parameters), normalisation folded, seeded, as `.onnx`."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def layer(op: str, x: str, shape: tuple[int, ...], gain: float, **attributes: object) -> str:
        name = f"layer{len(nodes)}"
        scale = gain / np.sqrt(np.prod(shape[1:]))  # He et al., 2015b: keeps the variance from layer to layer
        for suffix, array in (("w", rng.normal(0, scale, shape)), ("b", rng.normal(0, 0.1, shape[0]))):
            weights.append(numpy_helper.from_array(array.astype(np.float32), f"{name}.{suffix}"))
        nodes.append(helper.make_node(op, [x, f"{name}.w", f"{name}.b"], [name], name=name, **attributes))
        return name

    def step(op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(x: str, shape: tuple[int, int], size: int, stride: int = 1, gain: float = 2**0.5) -> str:
        return layer("Conv", x, (*shape, size, size), gain, strides=[stride] * 2, pads=[size // 2] * 4)

    x = step("Relu", conv("image", (64, 3), 7, 2))
    x = step("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    depth = 64
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            side = step("Relu", conv(x, (width, depth), 1))
            side = step("Relu", conv(side, (width, width), 3, stride))
            side = conv(side, (4 * width, width), 1, gain=0.5)  # small, or 16 sums of two would grow the activations
            short = x if block else conv(x, (4 * width, depth), 1, stride, gain=1.0)
            x = step("Relu", step("Add", side, short))
            depth = 4 * width
    x = step("Flatten", step("GlobalAveragePool", x))
    scores = layer("Gemm", x, (1000, depth), 1.0, transB=1)
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224]),
        helper.make_tensor_value_info(scores, TensorProto.FLOAT, [1, 1000]),
    ]
    graph = helper.make_graph(nodes, "resnet50", ends[:1], ends[1:], weights)
    path = folder / "resnet50.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


MODELS: dict[str, Callable[[Path], object]] = {
    "trivial": trivial,
    "resnet8": resnet8,
    "mobilenet_v2": mobilenet_v2,
    "resnet50": resnet50,
}

SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "coreml": ".mlpackage"}


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--targets", nargs="+", choices=SUFFIXES, default=list(SUFFIXES))
    parser.add_argument("--make", nargs=2, metavar=("MODEL", "FOLDER"), help="only write MODEL.onnx into FOLDER")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.make:
        MODELS[arguments.make[0]](Path(arguments.make[1]))
        return
    haversack = str(Path(sys.executable).with_name("haversack"))
    lines = ["| model | target | | CPU, s | wall, s | peak, MiB |", "|---|---|---|--:|--:|--:|"]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parent = cost([haversack, "--version"]).peak
        for made in arguments.models:
            # In a process of its own: a child's peak memory starts at that of the process it was forked from.
            subprocess.run([sys.executable, "-m", "benchmarks.fresh_process", "--make", made, name], check=True)
            for target in arguments.targets:
                for flags in (["--no-verify"], []):
                    command = [haversack, "convert", str(folder / f"{made}.onnx"), "--to", target, "--force", *flags]
                    command += ["-o", str(folder / f"out{SUFFIXES[target]}")]
                    taken = [cost(command) for _ in range(arguments.runs)]
                    lines.append(line(made, target, "not verified" if flags else "verified", taken, parent))
                    print(lines[-1], flush=True)
    lines += ["", frameworks()]
    print(f"\n{lines[-1]}")
    if arguments.write:
        write_between_marks(arguments.write, "\n".join(lines) + "\n", "fresh-process")


def frameworks() -> str:
    """Which frameworks the interpreter that was measured could import."""
    known = {"TensorFlow": "tensorflow", "PyTorch": "torch"}
    found = [name for name, module in known.items() if importlib.util.find_spec(module) is not None]
    return f"Installed of TensorFlow and PyTorch: {' and '.join(found) or 'neither'}."


def line(model: str, target: str, kind: str, taken: Sequence[Cost], parent: float) -> str:
    """One row of the table: medians, and the range of the CPU time."""
    cpu = [one.cpu for one in taken]
    wall = statistics.median(one.wall for one in taken)
    peak = max(one.peak for one in taken) + parent
    spent = f"{statistics.median(cpu):.2f} ({min(cpu):.2f}–{max(cpu):.2f})"
    return f"| {model} | {target} | {kind} | {spent} | {wall:.2f} | {peak:.0f} |"


if __name__ == "__main__":
    main()
