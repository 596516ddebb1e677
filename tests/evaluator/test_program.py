"""Reading a package, against coremltools' own reader; damage and hostile paths."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haversack.runtimes.engines.coreml import Evaluator, read_package
from haversack.runtimes.engines.coreml.program import DATA_TYPES, Constant
from haversack.runtimes.errors import EngineError, HaversackError

X = {"x": np.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)}


def network(mb: Any, x: Any) -> Any:
    weight = np.arange(4 * 3 * 3 * 3, dtype=np.float32).reshape(4, 3, 3, 3) / 100
    y = mb.conv(x=x, weight=weight, pad_type="same", strides=[2, 1], name="first")
    y = mb.relu(x=y)
    y = mb.reshape(x=y, shape=[2, 4, -1])
    return mb.softmax(x=y, axis=-1, name="y")


def test_reads_what_coremltools_reads(save: Callable[..., Path]) -> None:
    from coremltools.models.utils import load_spec

    path = save(network, X)
    ours = read_package(path).functions["main"]
    spec = load_spec(str(path)).mlProgram.functions["main"]
    block = spec.block_specializations[spec.opset]
    assert ours.opset == spec.opset
    assert [item.name for item in ours.inputs] == [item.name for item in spec.inputs]
    assert list(ours.block.outputs) == list(block.outputs)
    assert len(ours.block.operations) == len(block.operations)
    for found, wanted in zip(ours.block.operations, block.operations, strict=True):
        assert found.type == wanted.type
        assert found.inputs.keys() == set(wanted.inputs)
        for output, named in zip(found.outputs, wanted.outputs, strict=True):
            tensor = named.type.tensorType
            assert output.name == named.name
            assert output.type.dtype == DATA_TYPES[tensor.dataType]
            assert output.type.shape == tuple(d.constant.size for d in tensor.dimensions)


def test_constants_have_their_values_and_stored_bytes(save: Callable[..., Path]) -> None:
    weight = np.arange(4 * 3 * 3 * 3, dtype=np.float32).reshape(4, 3, 3, 3) / 100
    operations = read_package(save(network, X)).functions["main"].block.operations
    constants = [operation.attributes["val"] for operation in operations if operation.type == "const"]
    stored = [constant for constant in constants if isinstance(constant, Constant) and constant.stored]
    assert [constant.stored for constant in stored] == [weight.nbytes]
    np.testing.assert_array_equal(stored[0].value, weight)
    assert any(isinstance(constant.value, str) and constant.value == "same" for constant in constants)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_never_changes_the_package(save: Callable[..., Path]) -> None:
    path = save(network, X)
    before = digest(path)
    Evaluator(read_package(path)).run(X)
    assert digest(path) == before


def test_damaged_models_give_an_error_not_a_crash(save: Callable[..., Path]) -> None:
    path = save(network, X)
    model = next(path.rglob("*.mlmodel"))
    whole = model.read_bytes()
    rng = random.Random(1)
    refused = 0
    for trial in range(300):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(rng.randrange(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        model.write_bytes(damaged)
        try:
            Evaluator(read_package(path)).run(X)
        except HaversackError:
            refused += 1
    # Half of the trials are truncated, and almost every truncation loses the program or breaks a length.
    assert refused > 100


def test_refuses_paths_outside_the_package(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(network, X)
    secret = tmp_path / "secret.mlmodel"
    shutil.copy(next(path.rglob("*.mlmodel")), secret)
    manifest = json.loads((path / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../secret.mlmodel"
    (path / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="outside itself"):
        read_package(path)


def test_refuses_what_is_not_a_package(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not a Core ML package"):
        read_package(tmp_path)


def test_refuses_a_neural_network(coremltools: Any, tmp_path: Path) -> None:
    from coremltools.models import datatypes, neural_network

    builder = neural_network.NeuralNetworkBuilder([("x", datatypes.Array(3))], [("y", datatypes.Array(3))])
    builder.add_activation("relu", "RELU", "x", "y")
    path = tmp_path / "old.mlpackage"
    coremltools.models.MLModel(builder.spec, skip_model_load=True).save(str(path))
    with pytest.raises(EngineError, match="not an ML program"):
        read_package(path)


def test_needs_only_numpy(save: Callable[..., Path]) -> None:
    path = save(network, X)
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from haversack.runtimes.engines.coreml import open_artifact\n"
        f"engine = open_artifact(Path({str(path)!r}))\n"
        "engine.run({'x': np.zeros((2, 3, 8, 8), np.float32)})\n"
        "heavy = {'coremltools', 'google', 'onnx', 'scipy', 'tensorflow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert engine.emulated and 'reference evaluator' in engine.version\n"
    )
    if sys.platform == "darwin":
        pytest.skip("on Apple machines the engine is Core ML through coremltools")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
