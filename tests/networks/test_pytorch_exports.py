"""PyTorch networks, exported both ways, through the TFLite target.

Each is converted with full verification (the source runs in onnxruntime, the artifact in LiteRT) and compared once more
here on inputs of its own kind. No network ends in a softmax, and the spread of what is compared is asserted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install haversack[torch]")
pytest.importorskip("onnxscript", reason="PyTorch's exporter needs onnxscript: pip install haversack[torch]")

import architectures as networks  # noqa: E402
import exports  # noqa: E402

from haversack.convert import convert  # noqa: E402
from haversack.runtimes.engines import open_engine  # noqa: E402

RELATIVE = 1e-4
"""What the fp32 recipe promises (`verify/contract.py`): largest difference over largest magnitude."""

SPREAD = 0.1
"""A comparison proves something where the output's standard deviation is above this share of its mean magnitude."""


TRANSPOSES = {
    "nn.TransformerEncoder": (8, 12),  # a layer: queries, keys and values to heads first, and the result back; it works
    # tokens first, which with more than one example takes two more a layer
    "own attention": (8, 8),  # likewise, batch first
    "U-Net": (2, 2),  # the image in, the map out
    "ViT": (5, 5),  # the image in; a block: queries, keys and values as one, and the result back
    "LSTM and GRU tagger": (0, 3),  # it works tokens first: with more than one example in, between, and out
    "detector with NMS": (2, 2),  # the image in; scores are read by box and, in the suppression, by class
}
"""How many TRANSPOSE operators a file may hold, for one example and for any number of them."""

Export = Callable[[str, str, bool], Path]


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Gives the ONNX file of a network, an exporter and a choice of batch, each exported once."""
    folder = tmp_path_factory.mktemp("exports")

    def path(name: str, exporter: str, batch: bool) -> Path:
        file = folder / f"{list(networks.NETWORKS).index(name)}-{exporter}{'-batch' * batch}.onnx"
        if not file.exists():
            exports.export(networks, name, file, exporter, batch=batch)
        return file

    return path


def operators(path: Path) -> Counter[str]:
    """How many operators of each kind a `.tflite` holds, subgraphs included."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return Counter(names[codes[op.opcodeIndex]] for graph in model.subgraphs for op in graph.operators)


def compared(source: Path, artifact: Path, name: str) -> None:
    """Assert that LiteRT gives what onnxruntime does, on inputs that the network is meant for, batches where it can."""
    import onnxruntime as ort

    session, engine = ort.InferenceSession(source, providers=["CPUExecutionProvider"]), open_engine(artifact)
    batches = [1, 1, 1] if isinstance(engine.inputs[0].shape[0], int) else [1, 3, 2]
    for seed, batch in enumerate(batches):
        feeds = {"input": networks.sample(name, batch, seed).numpy()}
        expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
        found = engine.run(feeds)
        assert set(found) == set(expected)
        for key, want in expected.items():
            assert found[key].dtype == want.dtype, key
            assert found[key].shape == want.shape, key
            if want.dtype.kind == "i":
                np.testing.assert_array_equal(found[key], want, err_msg=key)
                continue
            assert want.std() > SPREAD * np.abs(want).mean(), key
            assert np.abs(found[key] - want).max() <= RELATIVE * np.abs(want).max(), key


@pytest.mark.slow
@pytest.mark.parametrize("batch", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("exporter", exports.EXPORTERS)
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_converts_and_agrees(name: str, exporter: str, batch: bool, export: Export, tmp_path: Path) -> None:
    source, artifact = export(name, exporter, batch), tmp_path / "m.tflite"
    made = convert(source, to="tflite", output=artifact)
    assert made.variant.verification.verified
    compared(source, artifact, name)
    found = operators(artifact)["TRANSPOSE"]
    assert found <= TRANSPOSES[name][batch]
    assert found == len(made.variant.transposes), "each is reported, with why it remains"


def test_a_unet_is_transposed_at_its_edges_only(export: Export, tmp_path: Path) -> None:
    made = convert(export("U-Net", "dynamo", False), to="tflite", output=tmp_path / "m.tflite", verify=False)
    assert operators(tmp_path / "m.tflite")["TRANSPOSE"] == 2
    told = [each.reason for each in made.variant.transposes]
    assert len(told) == 2
    assert "input keeps its order" in told[0]
    assert "output keeps its order" in told[1]


@pytest.mark.slow
@pytest.mark.parametrize("exporter", exports.EXPORTERS)
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_goes_to_onnx_too(name: str, exporter: str, export: Export, tmp_path: Path) -> None:
    from haversack.convert import inspect

    source = export(name, exporter, True)
    assert convert(source, to="onnx", output=tmp_path / "m.onnx").variant.verification.verified
    seen = inspect(source, to=["tflite", "onnx"])
    assert [blocker for each in seen.preflights for blocker in each.blockers] == []
