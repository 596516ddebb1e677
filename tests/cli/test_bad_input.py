"""Every kind of bad input: one clear line, the right exit code, and nothing written."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from .conftest import haversack, names


def test_a_missing_file(tmp_path: Path) -> None:
    done = haversack("convert", "nothing.onnx", "--to", "tflite", cwd=tmp_path)
    assert done.code == 2
    assert "there is no such file: nothing.onnx" in done.line
    assert not names(tmp_path)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = haversack("convert", "folder", "--to", "tflite", cwd=tmp_path)
    assert done.code == 2
    assert done.line.startswith("haversack: folder is a folder")  # as the user called it, not the worker's copy
    assert "no SavedModel" in done.line
    assert names(tmp_path) == {"folder"}
    assert "no SavedModel" in haversack("convert", ".", "--to", "tflite", cwd=tmp_path / "folder").line


def test_text_named_onnx(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("# How to train your network\n")
    done = haversack("convert", "text.onnx", "--to", "tflite", cwd=tmp_path)
    assert done.code == 2
    assert "text.onnx is not an ONNX model" in done.line
    np.savez(tmp_path / "x.npz", x=np.zeros(1, np.float32))
    for words in (["run", "text.onnx", "--input", "x.npz"], ["bench", "text.onnx"]):
        done = haversack(*words, cwd=tmp_path)
        assert done.code == 2
        assert (
            done.line
            == "haversack: text.onnx is not an ONNX model: it looks like a text file; check which file this is"
        )
    assert names(tmp_path) == {"text.onnx", "x.npz"}


@pytest.mark.parametrize("content", [b"", b"\x08\x08garbage" * 50, b"\x00" * 1000])
def test_damaged_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    done = haversack("convert", "bad.onnx", "--to", "onnx", "-o", "good.onnx", cwd=tmp_path)
    assert done.code == 2
    assert "bad.onnx" in done.line
    assert names(tmp_path) == {"bad.onnx"}


def test_a_fifo_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    done = haversack("inspect", "pipe.onnx", cwd=tmp_path, timeout=20)
    assert done.code == 2
    assert "not a regular file" in done.line


def test_a_socket_and_a_device(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.onnx"))
        assert haversack("inspect", tmp_path / "socket.onnx").code == 2
    assert "not a regular file" in haversack("inspect", "/dev/zero").line


def test_an_unsupported_operator_names_node_reason_and_remedy(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"], name="find"),
        helper.make_node("Det", ["x"], ["y"], name="volume"),
    ]
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("where", TensorProto.INT64, [2, None]),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "odd.onnx"
    )
    done = haversack("convert", "odd.onnx", "--to", "tflite", cwd=tmp_path)
    assert done.code == 1
    assert "tflite cannot hold this model" in done.line
    assert names(tmp_path) == {"odd.onnx"}
    listed = haversack("inspect", "odd.onnx", "--to", "tflite,coreml", cwd=tmp_path)
    assert listed.code == 1
    for blocker in ("find (NonZero)", "volume (Det)"):
        assert listed.out.count(blocker) == 2, listed.out  # one each for the two targets: all blockers at once


def test_calibration_of_a_wrong_name(model: Path) -> None:
    np.savez(model.parent / "wrong.npz", image=np.zeros((4, 3, 8, 8), np.float32))
    done = haversack(
        "convert", model, "--to", "tflite", "--compress", "int8", "--calibration", "wrong.npz", cwd=model.parent
    )
    assert done.code == 2
    assert "x float32" in done.line
    assert "found image" in done.line
    assert names(model.parent) == {"small.onnx", "wrong.npz"}


def test_calibration_of_a_wrong_shape(model: Path) -> None:
    np.savez(model.parent / "wrong.npz", x=np.zeros((4, 8, 8, 3), np.float32))
    done = haversack("pack", model, "--to", "tflite", "--calibration", "wrong.npz", cwd=model.parent)
    assert done.code == 2
    assert "expected float32 [n, 3, 8, 8], found float32 [4, 8, 8, 3]" in done.line
    assert names(model.parent) == {"small.onnx", "wrong.npz"}


def test_missing_calibration_is_said_before_any_work(model: Path) -> None:
    for words in (["--calibration", "nothing.npz"], []):
        done = haversack("convert", model, "--to", "tflite", "--compress", "int8", *words, cwd=model.parent)
        assert done.code == 2
        assert ("no such data: nothing.npz" if words else "int8 needs --calibration") in done.line


def test_an_existing_output_is_refused_and_replaced_by_force(model: Path) -> None:
    output = model.parent / "made.tflite"
    output.write_text("precious")
    refused = haversack("convert", model, "-o", output)
    assert refused.code == 2
    assert "exists already" in refused.line
    assert output.read_text() == "precious"
    assert haversack("convert", model, "-o", output, "--force").code == 0
    assert output.read_bytes()[4:8] == b"TFL3"


def test_force_replaces_a_file_by_a_package_and_a_package_by_another(model: Path) -> None:
    output = model.parent / "made.mlpackage"
    output.write_text("precious")
    for _ in range(2):
        assert haversack("convert", model, "-o", output, "--force").code == 0
        assert (output / "Manifest.json").is_file()
        assert names(model.parent) == {model.name, output.name}


@pytest.mark.parametrize(
    "words",
    [["convert"], ["convert", "m.onnx", "--bogus"], ["pack", "m.onnx"], ["frobnicate"], ["inspect", "missing.onnx"]],
)
def test_what_is_wrong_is_json_too(tmp_path: Path, words: list[str]) -> None:
    done = haversack(*words, "--json", cwd=tmp_path)
    assert done.code == 2
    told = json.loads(done.out)["error"]
    assert told["exit"] == 2
    assert done.line == f"haversack: {told['message']}"


def test_an_existing_companion_is_refused_too(model: Path) -> None:
    (model.parent / "made.ort").write_text("precious")
    done = haversack("convert", model, "-o", model.parent / "made.onnx")
    assert done.code == 2
    assert "made.ort" in done.line
    assert (model.parent / "made.ort").read_text() == "precious"
    assert not (model.parent / "made.onnx").exists()


def test_the_model_is_never_its_own_output(model: Path) -> None:
    before = model.read_bytes()
    done = haversack("convert", model, "-o", model, "--force")
    assert done.code == 2
    assert "the model itself" in done.line
    assert model.read_bytes() == before


def test_a_folder_that_takes_no_file(model: Path) -> None:
    # /sys takes no new file from anyone, root included, whatever its permissions say.
    folder = Path("/sys/kernel")
    if not folder.is_dir():
        pytest.skip("this system has no /sys/kernel to stand for a folder that cannot be written")
    done = haversack("convert", model, "-o", folder / "made.tflite")
    assert done.code == 2
    assert "cannot be written" in done.line


def test_a_read_only_folder(model: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write into a read-only folder; /sys stands for one in the test above")
    folder = model.parent / "closed"
    folder.mkdir(mode=0o555)
    done = haversack("convert", model, "-o", folder / "made.tflite")
    assert done.code == 2
    assert "cannot be written" in done.line


def test_a_folder_that_is_not_there(model: Path) -> None:
    done = haversack("convert", model, "-o", model.parent / "nowhere" / "made.tflite")
    assert done.code == 2
    assert "folder does not exist" in done.line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "tensorrt"], "unknown target 'tensorrt'"),
        (["-o", "made.bin"], "names no target"),
        (["--to", "tflite", "-o", "made.onnx"], "ends in .tflite"),
        ([], "say --to"),
        (["--to", "tflite", "--compress", "int3"], "'int3' is none of"),
        (["--to", "tflite", "--io-dtype", "int8"], "needs --compress int8"),
        (["--to", "tflite", "--io-layout", "sideways"], "'sideways' is none of"),
        (["--to", "coreml", "--deployment-target", "iOS3"], "'iOS3' is none of"),
        (["--to", "tflite", "--memory", "plenty"], "is no size"),
        (["--to", "tflite", "--bogus"], "no such option"),
        (["--to", "coreml", "--preprocess", "nonsense"], "nonsense"),
    ],
)
def test_options_that_cannot_be_meant(model: Path, words: list[str], said: str) -> None:
    done = haversack("convert", model, *words, cwd=model.parent)
    assert done.code == 2
    assert said in done.line
    assert names(model.parent) == {"small.onnx"}


def test_a_recipe_that_the_target_lacks_names_the_remedy(model: Path) -> None:
    done = haversack("convert", model, "--to", "coreml", "--compress", "int8-dynamic", cwd=model.parent)
    assert done.code == 1
    assert "int8-weights" in done.line


def test_external_data_beside_the_model_is_read(tmp_path: Path) -> None:
    from .conftest import small_model

    onnx.save(small_model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size > 0
    assert haversack("convert", "m.onnx", "--to", "tflite", cwd=tmp_path).code == 0
    (tmp_path / "m.data").unlink()
    done = haversack("convert", "m.onnx", "--to", "tflite", "--force", cwd=tmp_path)
    assert done.code == 2
    assert "m.data" in done.line


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    from .conftest import small_model

    model = small_model()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    loaded = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    for tensor in loaded.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../../../etc/passwd"
    (tmp_path / "m.onnx").write_bytes(loaded.SerializeToString())
    done = haversack("convert", "m.onnx", "--to", "tflite", cwd=tmp_path)
    assert done.code == 2
    assert "outside the model's folder" in done.line
