"""A package that another tool wrote overflows in float16: verification names the op."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from haversack.convert import verify_artifact
from haversack.convert.errors import VerificationError


def test_verification_names_the_op_that_overflows(coremltools: Any, tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    @mb.program(input_specs=[mb.TensorSpec((1, 8))], opset_version=coremltools.target.iOS16)  # type: ignore[untyped-decorator]
    def program(x: Any) -> Any:
        square = mb.mul(x=x, y=x, name="square")
        return mb.sqrt(x=mb.reduce_mean(x=square, axes=[1], keep_dims=True), name="y")

    package, model = tmp_path / "half.mlpackage", tmp_path / "model.onnx"
    coremltools.convert(
        program,
        source="milinternal",
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS16,
        compute_precision=coremltools.precision.FLOAT16,
        skip_model_load=True,
    ).save(str(package))
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["mean"], axes=[1]),
        helper.make_node("Sqrt", ["mean"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 8]), ("y", None)))
    graph = helper.make_graph(nodes, "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    np.savez(tmp_path / "large.npz", x=np.full((1, 1, 8), 300, np.float32))  # 90,000 is beyond float16
    with pytest.raises(VerificationError, match="float16 overflow in 8 elements of mul 'square"):
        verify_artifact(package, model, inputs=tmp_path / "large.npz", compress="fp16")
