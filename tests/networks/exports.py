"""PyTorch networks as ONNX files, by both of PyTorch's exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

Exporter = Literal["dynamo", "script"]
EXPORTERS: tuple[Exporter, ...] = ("dynamo", "script")

OPSET = 18
"""The default of the exporter by torch.export; also the last one that the older exporter writes without a warning."""


def export(networks: ModuleType, name: str, path: Path, exporter: Exporter, *, batch: bool = False) -> None:
    """Write a network as ONNX.

    Args:
        networks: The module `architectures`.
        name: Of the network.
        path: The file.
        exporter: `dynamo`, by torch.export, PyTorch's default; `script`, by tracing to TorchScript.
        batch: Whether the first axis of the input is dynamic.
    """
    network = networks.build(name)
    given = networks.sample(name, batch=2 if batch else 1)
    outputs = ["boxes", "scores", "classes"] if "NMS" in name else ["output"]
    more: dict[str, Any] = {"input_names": ["input"], "output_names": outputs, "opset_version": OPSET}
    if exporter == "dynamo":
        more["custom_translation_table"] = {torch.ops.haversack_tests.nms.default: _nms_of_dynamo()}
        if batch:
            more["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif batch:
        more["dynamic_axes"] = {"input": {0: "batch"}, **({} if "NMS" in name else {"output": {0: "batch"}})}
    with _silence(), _without_fast_path(), _nms_of_script():
        torch.onnx.export(network, (given,), str(path), dynamo=exporter == "dynamo", external_data=False, **more)


def _nms_of_dynamo() -> Callable[..., Any]:
    import onnxscript

    op = onnxscript.values.Opset("", OPSET)

    def translated(boxes: Any, scores: Any, most: int, overlap: float, threshold: float) -> Any:
        limits = (
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[overlap]),
            op.Constant(value_floats=[threshold]),
        )
        return op.NonMaxSuppression(boxes, scores, *limits)

    return translated


@contextlib.contextmanager
def _nms_of_script() -> Iterator[None]:
    from torch.onnx.symbolic_helper import parse_args

    @parse_args("v", "v", "i", "f", "f")
    def symbolic(g: Any, boxes: Any, scores: Any, most: int, overlap: float, threshold: float) -> Any:
        given = torch.tensor([most]), torch.tensor([overlap]), torch.tensor([threshold])
        limits = [g.op("Constant", value_t=each) for each in given]
        return g.op("NonMaxSuppression", boxes, scores, *limits)

    torch.onnx.register_custom_op_symbolic("haversack_tests::nms", symbolic, OPSET)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic("haversack_tests::nms", OPSET)


@contextlib.contextmanager
def _without_fast_path() -> Iterator[None]:
    """Encoder layers as their operators: tracing takes the fused kernel for one that ONNX has no word for."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Exporters print progress, warn of their own deprecations, and miss torchvision."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
