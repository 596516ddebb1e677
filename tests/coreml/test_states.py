"""States: what a package keeps from call to call, against the model run in a loop by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from haversack.convert.errors import UnsupportedError, UsageError, VerificationError
from haversack.convert.names import states_of
from haversack.convert.pipeline import convert
from haversack.runtimes.engines import open_engine
from haversack.runtimes.engines.coreml import EvaluatorEngine, read_package

RNG = np.random.default_rng(3)
FP16 = 1e-2
"""The contract of fp16."""


def _weights(*shape: int) -> np.ndarray:
    return RNG.normal(scale=0.3, size=shape).astype(np.float32)


def _model(text: str, **constants: Any) -> onnx.ModelProto:
    model = parser.parse_model('<ir_version: 10, opset_import: ["": 21]> ' + text)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    return model


CELL = _model(
    """g (float[1,4] x, float[1,8] h) => (float[1,8] new, float[1,3] y) {
     a = MatMul(x, wx)
     b = MatMul(h, wh)
     c = Add(a, b)
     new = Tanh(c)
     y = MatMul(new, wy) }""",
    wx=_weights(4, 8),
    wh=_weights(8, 8),
    wy=_weights(8, 3),
)
"""A recurrent cell: `h` goes in, `new` comes out."""

WINDOW = _model(
    """g (float[1,5,4] past, float[1,1,4] x, float[1,2,2] other)
       => (float[1,4] y, float[1,2,2] sum, float[1,5,4] kept) {
     kept_all = Concat<axis=1>(past, x)
     kept = Slice(kept_all, one, six, one)
     y = ReduceMean<keepdims=0>(kept, one)
     flat = Reshape(x, square)
     sum = Add(other, flat) }""",
    one=np.array([1]),
    six=np.array([6]),
    square=np.array([1, 2, 2]),
)
"""A window of the last five inputs, as a cache of fixed size is, and a running sum."""


def _loop(model: onnx.ModelProto, steps: list[dict[str, np.ndarray]], states: dict[str, str]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    shapes = {value.name: value.shape for value in session.get_inputs()}
    held, given = {name: np.zeros(shapes[name], np.float32) for name in states}, []
    for feeds in steps:
        outputs = dict(zip(names, session.run(None, {**feeds, **held}), strict=True))
        held = {before: outputs[after] for before, after in states.items()}
        given.append(outputs["y"])
    return given


@pytest.mark.parametrize(
    ("model", "states"),
    [(CELL, {"h": "new"}), (WINDOW, {"other": "sum", "past": "kept"})],
    ids=["cell", "window"],
)
def test_a_package_with_states_is_the_model_in_a_loop(tmp_path: Path, model: onnx.ModelProto, states: Any) -> None:
    onnx.save(model, tmp_path / "model.onnx")
    made = convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", compress="fp16", states=states)
    assert made.variant.min_runtime == "iOS18"
    assert "and in a loop of 8 calls" in made.variant.verification.inputs
    assert sum("is a state in float16" in note for note in made.variant.notes) == len(states)
    engine = open_engine(tmp_path / "m.mlpackage")
    assert isinstance(engine, EvaluatorEngine)
    assert {spec.name for spec in engine.states} == {
        state.name for state in read_package(tmp_path / "m.mlpackage").states
    }
    assert {spec.name for spec in engine.states} == set(states)
    assert [spec.name for spec in engine.inputs] == ["x"]
    assert [spec.name for spec in engine.outputs] == ["y"]
    shape = tuple(engine.inputs[0].shape)
    steps = [{"x": RNG.normal(size=shape).astype(np.float32)} for _ in range(12)]
    state = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.states}
    for feeds, wanted in zip(steps, _loop(model, steps, states), strict=True):
        found = engine.step(feeds, state)["y"]
        assert np.abs(found - wanted).max() <= FP16 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("states", "recipe", "options", "message"),
    [
        ({"h": "new"}, "fp32", {}, "states are float16.*use the recipe fp16"),
        ({"h": "new"}, "fp16", {"deployment_target": "iOS17"}, "from iOS 18 on, the deployment target is iOS 17"),
        ({"h": "z"}, "fp16", {}, "h=z is no pair.*outputs are new, y"),
        ({"x": "new"}, "fp16", {}, r"x \(state\): it is FLOAT\[1, 4\] before a call and FLOAT\[1, 8\] after it"),
    ],
)
def test_what_cannot_be_a_state_is_refused(
    tmp_path: Path, states: dict[str, str], recipe: str, options: dict[str, Any], message: str
) -> None:
    onnx.save(CELL, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match=message):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", states=states, compress=recipe, **options)
    assert not (tmp_path / "m.mlpackage").exists()


def test_a_state_that_is_left_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from haversack.convert.targets.coreml import states

    onnx.save(CELL, tmp_path / "model.onnx")
    left = lambda b, _, state: b.mil.coreml_update_state(state=state, value=b.mil.read_state(input=state))  # noqa: E731
    monkeypatch.setattr(states, "update", left)
    with pytest.raises(VerificationError, match="new"):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", states={"h": "new"}, compress="fp16")


def test_states_are_for_core_ml(tmp_path: Path) -> None:
    onnx.save(CELL, tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="tflite and states do not go together"):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.tflite", states={"h": "new"})
    assert states_of(["h=new", "c = c1"]) == {"h": "new", "c": "c1"}
    for wrong in (["h"], ["h="], ["h=a", "h=b"]):
        with pytest.raises(UsageError, match="write it as INPUT=OUTPUT"):
            states_of(wrong)
