"""Packages that coremltools makes by its own frontends, run by the reference evaluator, beside the frameworks.

    python -m benchmarks.coreml_frontends                       all of them, half a minute
    python -m benchmarks.coreml_frontends --network ViT --folder packages

The evaluator must be right about packages that Haversack has no part in. Keras networks go through coremltools as
concrete functions of one image, PyTorch networks by `torch.export` and by tracing. Every error is
*reference-evaluated*: the largest difference from the framework's own outputs over their largest magnitude, over four
inputs, by float32 and by float16 arithmetic. The first is to stay below 1e-4, the second below 1e-2
(`verify/contract.py` says why).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import keras_applications, pytorch_exports
from haversack.runtimes.engines import Array, open_engine
from haversack.runtimes.errors import HaversackError

KERAS = ("MobileNetV2", "MobileNetV3Small")
EXPORTED = ("nn.TransformerEncoder", "own attention", "U-Net", "ViT")
TRACED = ("U-Net", "ViT", "LSTM and GRU tagger")
THEIRS = {
    ("nn.TransformerEncoder", "torch.export"): "coremltools drops the dtype of zeros_like, so the padding mask of -inf "
    "becomes a boolean one that means the opposite: the package is wrong, not its evaluation",
    ("U-Net", "torch.export"): "coremltools wants max_pool2d's stride, which the exported graph leaves out",
    ("ViT", "traced"): "coremltools takes int() of an array, which NumPy 2 refuses",
}
"""What coremltools 9 does wrong itself, by network and frontend; shown, and not held to a limit."""
LIMITS = {"FLOAT32": 1e-4, "FLOAT16": 1e-2}


@dataclass(frozen=True)
class Result:
    """One package.

    Attributes:
        network: Its name.
        frontend: What coremltools read.
        precision: `FLOAT32` or `FLOAT16`.
        error: Largest difference over largest magnitude; None where it could not be made or run.
        spread: The framework's output's standard deviation over its mean magnitude.
        said: Why there is no error.
    """

    network: str
    frontend: str
    precision: str
    error: float | None
    spread: float
    said: str = ""

    @property
    def theirs(self) -> str:
        """What coremltools does wrong with this network, if so."""
        return THEIRS.get((self.network, self.frontend), "")

    @property
    def kept(self) -> bool:
        """Whether the error is below its limit."""
        return self.error is not None and self.error <= LIMITS[self.precision]


def results(asked: list[str], folder: Path) -> Iterator[Result]:
    """Convert and evaluate; packages stay in `folder`."""
    networks = pytorch_exports.module("architectures")
    for name in (name for name in networks.NETWORKS if name in asked):
        samples = [networks.sample(name, seed=seed) for seed in range(pytorch_exports.SAMPLES)]
        network = networks.build(name)
        expected = [network(sample).numpy() for sample in samples]
        arrays = [sample.numpy() for sample in samples]
        for frontend, names, read in (("torch.export", EXPORTED, _exported), ("traced", TRACED, _traced)):
            if name in names:
                yield from _both(name, frontend, read(network, samples[0]), arrays, expected, folder)
    for name in (name for name in KERAS if name in asked):
        model = keras_applications.build(name)
        size = [int(edge) for edge in model.input_shape[1:]]
        images = np.random.default_rng(1).uniform(0, 1, (pytorch_exports.SAMPLES, 1, *size)).astype(np.float32)
        expected = [model(image, training=False).numpy() for image in images]
        yield from _both(name, "concrete function", _concrete(model, size), list(images), expected, folder)


def _exported(network: Any, sample: Any) -> dict[str, Any]:
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel is not among coremltools' operators
    try:
        program = torch.export.export(network, (sample,)).run_decompositions({})
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    return {"model": program}


def _traced(network: Any, sample: Any) -> dict[str, Any]:
    import coremltools
    import torch

    kind = np.float32 if sample.is_floating_point() else np.int32
    shown = coremltools.TensorType(name="input", shape=tuple(sample.shape), dtype=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"model": torch.jit.trace(network, (sample,)), "inputs": [shown]}


def _concrete(model: Any, size: list[int]) -> dict[str, Any]:
    import tensorflow as tf

    call = tf.function(lambda image: model(image, training=False))
    return {"model": [call.get_concrete_function(tf.TensorSpec((1, *size), tf.float32))], "source": "tensorflow"}


def _both(
    name: str, frontend: str, given: dict[str, Any], inputs: list[Array], expected: list[Array], folder: Path
) -> Iterator[Result]:
    import coremltools

    joined = np.stack(expected)
    spread = float(joined.std() / np.abs(joined).mean())
    for precision in LIMITS:
        path = folder / f"{name} {frontend} {precision}.mlpackage".replace(" ", "-")
        try:
            made = coremltools.convert(
                **given,
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS16,
                compute_precision=getattr(coremltools.precision, precision),
                skip_model_load=True,
            )
            made.save(str(path))
            found = _evaluated(path, inputs)
        except HaversackError as error:
            yield Result(name, frontend, precision, None, spread, f"evaluator: {error}")
        except Exception as error:  # coremltools raises whatever its frontends meet
            said = f"coremltools: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            yield Result(name, frontend, precision, None, spread, said)
        else:
            yield Result(name, frontend, precision, float(np.abs(found - joined).max() / np.abs(joined).max()), spread)


def _evaluated(path: Path, inputs: list[Array]) -> Array:
    engine = open_engine(path)
    if not engine.emulated:
        raise SystemExit("this is an Apple machine: the evaluator is not what would run")
    (given,), (out,) = engine.inputs, engine.outputs
    return np.stack([engine.run({given.name: array.astype(given.dtype)})[out.name] for array in inputs])


def main() -> int:
    """Run the command line above; 1 where an error is above its limit or could not be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*dict.fromkeys((*EXPORTED, *TRACED)), *KERAS]
    parser.add_argument("--network", choices=known, action="append")
    parser.add_argument("--folder", type=Path, help="keep the packages there")
    parser.add_argument("--json", type=Path, help="write the results there too")
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    if asked.network and not set(asked.network) & set(KERAS):
        sys.modules["tensorflow"] = None  # coremltools imports it where it finds it, which takes seconds
    found = []
    show: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731
    show("| network | frontend | arithmetic | error (reference-evaluated) | spread |")
    show("|---|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for each in results(asked.network or known, folder):
            found.append(each)
            error = f"**{each.said}**" if each.error is None else f"{each.error:.1e}"
            error += f" ({each.theirs})" if each.theirs else ""
            show(f"| {each.network} | {each.frontend} | {each.precision.lower()} | {error} | {each.spread:.2f} |")
    if asked.json:
        asked.json.write_text(
            json.dumps([{**asdict(each), "kept": each.kept, "theirs": each.theirs} for each in found], indent=1)
        )
    return 0 if all(each.kept or each.theirs for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
