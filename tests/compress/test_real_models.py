"""int8 on real models and real data: within one point of float, calibrated on the calibration sets only."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe

pytestmark = pytest.mark.slow


def images(path: Path, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Pixels 0..255, NHWC, and labels: ResNet8 takes raw pixels."""
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".jpg", ".jpeg")))[::every]
        classes = sorted({name.split("/")[-2] for name in names})
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"), np.float32) for name in names]
    return np.stack(pixels), np.array([classes.index(name.split("/")[-2]) for name in names])


@pytest.fixture(scope="module", params=["kws_saved_model", "resnet8.h5"])
def case(request, shared_data):
    pytest.importorskip("tensorflow", reason="reading Keras and SavedModel files needs the extra tensorflow")
    from haversack.convert.hub.shapes import bind_batch
    from haversack.convert.sources import read

    model = bind_batch(read(shared_data / "mlperf_tiny" / request.param).model)
    if request.param.startswith("kws"):
        calibration = np.load(shared_data / "kws_calibration.npz")["input_1"]
        evaluation = np.load(shared_data / "kws_evaluation.npz")
        inputs, labels = evaluation["input_1"], evaluation["label"]
    else:
        calibration, _ = images(shared_data / "cifar10_calibration.zip")
        inputs, labels = images(shared_data / "cifar10_evaluation.zip")
    name = model.graph.inputs[0].name
    return model, [{name: each[None]} for each in calibration], [{name: each[None]} for each in inputs], labels


def predictions(model, batches) -> np.ndarray:
    from haversack.convert.hub.evaluate import Evaluator

    evaluator = Evaluator(model)
    return np.array([next(iter(evaluator.run(feeds).values())).argmax() for feeds in batches])


def test_int8_stays_within_a_point(case) -> None:
    model, calibration, evaluation, labels = case
    reference = (predictions(model, evaluation) == labels).mean()
    for rule in ("minmax", "percentile", "mse"):
        for granularity in ("per-channel", "per-tensor"):
            made = compress(model, Recipe("int8", rule, granularity), calibration).model
            found = (predictions(made, evaluation) == labels).mean()
            assert found >= reference - 0.010, f"{rule}, {granularity}: {found:.4f} against {reference:.4f}"


def test_palettes_of_six_bits_stay_within_a_point_and_four_bits_need_data(case) -> None:
    model, calibration, evaluation, labels = case
    reference = (predictions(model, evaluation) == labels).mean()
    six = compress(model, Recipe("palette6"), calibration).model
    assert (predictions(six, evaluation) == labels).mean() >= reference - 0.010
    four = [compress(model, Recipe("palette4"), data).model for data in (None, calibration)]
    plain, told = ((predictions(each, evaluation) == labels).mean() for each in four)
    assert told >= plain + 0.03


def test_four_bits_in_every_layer_need_methods(case) -> None:
    from haversack.convert.compress.methods.adaround import adaround
    from haversack.convert.compress.methods.reconstruct import Choice, Wanted, reconstruct
    from haversack.convert.compress.methods.rounders import second_order
    from haversack.convert.compress.methods.stepwise import sample

    model, calibration, evaluation, labels = case
    evaluation, labels = evaluation[::5], labels[::5]
    reference = (predictions(model, evaluation) == labels).mean()
    wanted = {str(node.name): Wanted(7, per_channel=False) for node in model.graph if node.op_type in ("Conv", "Gemm")}
    batches = sample(calibration, model)
    choices = (Choice(None, fitted=False, bias=False), Choice(second_order), Choice(adaround))
    plain, second, learned = (
        (predictions(reconstruct(model, wanted, choice, batches).model, evaluation) == labels).mean()
        for choice in choices
    )
    assert plain < reference - 0.2
    # 90 samples of KWS have a standard error of 3 points; paired with the float model's it is about half of that
    assert min(second, learned) > reference - 0.05
