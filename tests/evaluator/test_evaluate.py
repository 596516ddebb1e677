"""The executor: declarations held, precision, hooks, single operations, states, errors at opening."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.runtimes.engines.coreml import Evaluator, EvaluatorEngine, read_package
from haversack.runtimes.engines.coreml.program import Operation, Program
from haversack.runtimes.errors import EngineError, FeedError

Save = Callable[..., Path]
X = {"x": np.array([[-2.0, 0.5, 3.0]], np.float32)}


def chain(mb: Any, x: Any) -> Any:
    a = mb.relu(x=x, name="a")
    b = mb.add(x=a, y=np.float32(1), name="b")
    return mb.mul(x=b, y=b, name="y")


def changed(program: Program, index: int, **changes: Any) -> Program:
    """The program with one of its operations (counted without constants) changed."""
    function = program.functions["main"]
    operations = list(function.block.operations)
    place = [i for i, operation in enumerate(operations) if operation.type != "const"][index]
    operations[place] = replace(operations[place], **changes)
    block = replace(function.block, operations=tuple(operations))
    return replace(program, functions={"main": replace(function, block=block)})


def test_engine_describes_and_runs(save: Save) -> None:
    engine = EvaluatorEngine(save(chain, X))
    assert engine.emulated
    assert [(s.name, s.dtype, s.shape) for s in engine.inputs] == [("x", "float32", (1, 3))]
    assert [(s.name, s.dtype, s.shape) for s in engine.outputs] == [("y", "float32", (1, 3))]
    np.testing.assert_array_equal(engine.run(X)["y"], [[1.0, 2.25, 16.0]])


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"z": X["x"]},
        {"x": X["x"], "z": X["x"]},
        {"x": X["x"].astype(np.float64)},
        {"x": X["x"][0]},
        {"x": np.zeros((2, 3), np.float32)},
    ],
)
def test_refuses_wrong_feeds(save: Save, feeds: dict[str, np.ndarray]) -> None:
    evaluator = Evaluator(read_package(save(chain, X)))
    with pytest.raises(FeedError):
        evaluator.run(feeds)


def test_unknown_op_and_parameter_are_refused_together_at_opening(save: Save) -> None:
    program = changed(read_package(save(chain, X)), 0, type="quantum_relu")
    last = program.functions["main"].block.operations[-1]
    program = changed(program, 2, inputs={**last.inputs, "gamma": ("b",)})
    with pytest.raises(EngineError, match="quantum_relu") as caught:
        Evaluator(program)
    assert "gamma" in str(caught.value)


def test_a_lying_shape_is_an_error(save: Save) -> None:
    program = read_package(save(chain, X))
    output = program.functions["main"].block.operations[-1].outputs[0]
    lie = replace(output, type=replace(output.type, shape=(3, 1)))
    with pytest.raises(EngineError, match=r"mul 'y' gave the shape \[1, 3\]"):
        Evaluator(changed(program, 2, outputs=(lie,))).run(X)


def test_a_lying_dtype_is_an_error(save: Save) -> None:
    program = read_package(save(chain, X))
    output = program.functions["main"].block.operations[-1].outputs[0]
    lie = replace(output, type=replace(output.type, dtype="int32"))
    with pytest.raises(EngineError, match="gave float32, declared int32"):
        Evaluator(changed(program, 2, outputs=(lie,))).run(X)


def test_hook_sees_every_op_and_replaces_values(save: Save) -> None:
    evaluator = Evaluator(read_package(save(chain, X)))
    seen: list[str] = []

    def hook(
        operation: Operation, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, np.ndarray] | None:
        seen.append(operation.type)
        if operation.type == "relu":
            np.testing.assert_array_equal(inputs["x"], X["x"])
            return {"a": np.full((1, 3), 9.0, np.float32)}
        if operation.type == "add":
            np.testing.assert_array_equal(inputs["a"], [[9.0, 9.0, 9.0]])
            np.testing.assert_array_equal(outputs["b"], [[10.0, 10.0, 10.0]])
        return None

    np.testing.assert_array_equal(evaluator.run(X, hook=hook)["y"], [[100.0, 100.0, 100.0]])
    assert seen == ["relu", "add", "mul"]


def test_runs_one_operation_alone(save: Save) -> None:
    evaluator = Evaluator(read_package(save(chain, X)))
    assert list(evaluator.variables()) == ["x", "a", "b", "y"]
    found = evaluator.run_operation("b", {"a": np.array([[1.0, 2.0, 3.0]], np.float32)})
    np.testing.assert_array_equal(found["b"], [[2.0, 3.0, 4.0]])
    with pytest.raises(FeedError, match="also needs a"):
        evaluator.run_operation("b", {})
    with pytest.raises(EngineError, match="no operation"):
        evaluator.run_operation("nothing", {})


def test_float16_is_rounded_after_every_op(save: Save) -> None:
    x = {"x": np.array([2048.0, 0.1], np.float16)}

    def body(mb: Any, x: Any) -> Any:
        # 2048 + 1 rounds to 2048 in float16 (half to even), so adding 1 three times adds nothing.
        for _ in range(3):
            x = mb.add(x=x, y=np.float16(1))
        return mb.identity(x=x, name="y")

    evaluator = Evaluator(read_package(save(body, x)))
    wanted = x["x"]
    for _ in range(3):
        wanted = wanted + np.float16(1)
    found = evaluator.run(x)["y"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, wanted)
    assert evaluator.anomalies == ()


def test_overflow_and_nan_name_the_op_where_they_begin(save: Save) -> None:
    x = {"x": np.array([300.0, 1.0], np.float16)}

    def body(mb: Any, x: Any) -> Any:
        square = mb.mul(x=x, y=x, name="square")  # 90,000 is beyond float16
        same = mb.relu(x=square, name="same")
        return mb.sub(x=same, y=square, name="y")  # inf - inf

    evaluator = Evaluator(read_package(save(body, x)))
    evaluator.run(x)
    found = [(anomaly.operation, anomaly.kind, anomaly.count) for anomaly in evaluator.anomalies]
    assert found == [("mul 'square'", "float16 overflow", 1), ("sub 'y'", "NaN", 1)]


def test_states_outlive_a_call(coremltools: Any, tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    @mb.program(
        input_specs=[mb.TensorSpec((2,), dtype=types.fp16), mb.StateTensorSpec((2,), dtype=types.fp16)],
        opset_version=coremltools.target.iOS18,
    )
    def program(x: Any, total: Any) -> Any:
        old = mb.read_state(input=total)
        return mb.identity(x=mb.coreml_update_state(state=total, value=mb.add(x=x, y=old)), name="y")

    model = coremltools.convert(
        program,
        source="milinternal",
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS18,
        skip_model_load=True,
    )
    path = tmp_path / "stateful.mlpackage"
    model.save(str(path))
    evaluator = Evaluator(read_package(path))
    state = evaluator.new_state()
    x = {"x": np.array([1, 2], np.float16)}
    for times in (1, 2, 3):
        (found,) = evaluator.run(x, state=state).values()
        np.testing.assert_array_equal(found, times * x["x"])
    (fresh,) = evaluator.run(x).values()
    np.testing.assert_array_equal(fresh, x["x"])


def test_loop_and_condition(save: Save) -> None:
    inputs = {"x": np.array(3.0, np.float32).reshape(1), "limit": np.array([50.0], np.float32)}

    def body(mb: Any, x: Any, limit: Any) -> Any:
        def going(value: Any, _: Any) -> Any:
            return mb.squeeze(x=mb.less(x=value, y=limit))

        def step(value: Any, count: Any) -> Any:
            return mb.mul(x=value, y=np.float32(2)), mb.add(x=count, y=np.int32(1))

        value, count = mb.while_loop(_cond=going, _body=step, loop_vars=(x, np.int32(0)))
        big = mb.squeeze(x=mb.greater(x=value, y=np.float32(90)))
        chosen = mb.cond(
            pred=big, _true_fn=lambda: mb.sub(x=value, y=limit), _false_fn=lambda: mb.add(x=value, y=limit)
        )
        return mb.identity(x=chosen, name="y"), mb.identity(x=count, name="n")

    evaluator = Evaluator(read_package(save(body, inputs)))
    found = evaluator.run(inputs)
    assert found["y"].item() == 46.0  # 3, 6, 12, 24, 48, 96; 96 - 50
    assert found["n"].item() == 5
    found = evaluator.run({**inputs, "limit": np.array([40.0], np.float32)})
    assert found["y"].item() == 88.0  # 48 + 40
    assert found["n"].item() == 4
