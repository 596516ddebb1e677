from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from haversack.runtimes.errors import FeedError
from haversack.runtimes.preprocess import PRESETS, Preprocess
from haversack.runtimes.resample import resize

side = st.integers(1, 60)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def pillow(image: np.ndarray, height: int, width: int, how: Image.Resampling) -> np.ndarray:
    """Pillow's resize, the width first: two calls, since one call chooses its own order."""
    made = Image.fromarray(image).resize((width, image.shape[0]), how)
    return np.asarray(made.resize((width, height), how))


@settings(max_examples=150, deadline=None)
@given(side, side, side, side, st.integers(0, 9))
def test_bilinear_is_pillows(rows: int, columns: int, height: int, width: int, seed: int) -> None:
    image = noise(rows, columns, seed=seed)
    expected = pillow(image, height, width, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize(image, height, width, "bilinear"), expected)


@settings(max_examples=150, deadline=None)
@given(side, side, side, side)
def test_nearest_is_pillows(rows: int, columns: int, height: int, width: int) -> None:
    image = noise(rows, columns)
    expected = pillow(image, height, width, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize(image, height, width, "nearest"), expected)


def test_a_photograph_sized_image_is_pillows() -> None:
    image = noise(768, 1024)
    expected = pillow(image, 224, 224, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize(image, 224, 224, "bilinear"), expected)
    # In one call Pillow may take the height first. Each pass rounds once, by at most half a level, and the second
    # pass averages what the first rounded: two orders are at most 2 * (1/2 + 1/2) = 2 levels apart.
    one_call = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(one_call.astype(int) - expected).max() <= 2


def fitted(spec: str, shape: tuple[int | str, ...] = ("n", 6, 5, 3), dtype: str = "float32") -> Preprocess:
    return Preprocess.from_spec(spec).fit(shape, dtype)


def test_grayscale_is_pillows() -> None:
    image = noise(50, 60)
    found = fitted("raw-0-255", (1, 50, 60, 1)).apply(image)
    np.testing.assert_array_equal(found[:, :, 0], np.asarray(Image.fromarray(image).convert("L")))
    flat = fitted("raw-0-255", (1, 50, 60)).apply(image)
    np.testing.assert_array_equal(flat, found[:, :, 0])


def test_imagenet_is_torchvisions_formula() -> None:
    """Resize to 256 on the shorter side, centre 224, /255, mean and std, channels first: torchvision's recipe."""
    image = noise(300, 400)
    found = fitted("imagenet", ("n", 3, 224, 224)).apply(image)
    resized = pillow(image, 256, 256 * 400 // 300, Image.Resampling.BILINEAR)
    top, left = round((256 - 224) / 2), round((341 - 224) / 2)
    crop = resized[top : top + 224, left : left + 224].astype(np.float64) / 255
    expected = (crop - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert found.dtype == np.float32
    # 2**-24 relative to values below 4: the one rounding to float32, and doubles' own far below it.
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), rtol=0, atol=4 * 2**-24)


def test_letterbox_keeps_the_aspect_ratio_and_pads_evenly() -> None:
    image = np.full((10, 20, 3), 200, np.uint8)
    found = fitted("raw-0-255,resize=letterbox,pad=114", (1, 40, 40, 3)).apply(image)
    assert np.all(found[10:30] == 200)
    assert np.all(found[:10] == 114)
    assert np.all(found[30:] == 114)


@pytest.mark.parametrize("rule", ["stretch", "shortest-then-center-crop", "letterbox"])
@settings(max_examples=60, deadline=None)
@given(rows=side, columns=side, height=side, width=side, gray=st.booleans(), crop=st.sampled_from([1.0, 0.875, 0.3]))
def test_any_image_gives_the_inputs_shape(
    rule: str, rows: int, columns: int, height: int, width: int, gray: bool, crop: float
) -> None:
    described = Preprocess(resize=rule, crop_fraction=crop)  # type: ignore[arg-type]
    image = noise(rows, columns, 1 if gray else 3)
    for shape in [(1, height, width, 3), (1, 3, height, width)]:
        if shape[1] in (1, 3) and shape[3] in (1, 3):
            continue
        assert described.fit(shape, "float32").apply(image).shape == shape[1:]


@given(st.integers(0, 255), st.sampled_from(list(PRESETS)))
def test_a_flat_image_stays_flat_under_every_resize_and_preset(level: int, preset: str) -> None:
    described = fitted(preset)
    found = described.apply(np.full((13, 9, 3), level, np.uint8))
    mean, std = (np.resize(np.array(values), 3) for values in (described.mean, described.std))
    expected = ((level * described.scale - mean) / std).astype(np.float32)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_layouts_and_colours_are_permutations() -> None:
    image = noise(6, 5)
    base = fitted("raw-0-255").apply(image)
    np.testing.assert_array_equal(base, image)
    np.testing.assert_array_equal(fitted("color=bgr").apply(image), base[:, :, ::-1])
    np.testing.assert_array_equal(fitted("raw-0-255", ("n", 3, 6, 5)).apply(image), base.transpose(2, 0, 1))
    assert fitted("raw-0-255", dtype="uint8").apply(image).dtype == np.uint8


choices = st.builds(
    Preprocess,
    st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    st.sampled_from(["stretch", "shortest-then-center-crop", "letterbox"]),
    st.floats(0.1, 1.0),
    st.sampled_from(["nearest", "bilinear"]),
    st.integers(0, 255),
    st.sampled_from([None, "rgb", "bgr"]),
    st.floats(1e-6, 1e3),
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3).map(tuple) | st.just((0.5,)),
    st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3).map(tuple) | st.just((2.0,)),
    st.sampled_from([None, "NHWC", "NCHW"]),
    st.sampled_from([None, "float32", "int8"]),
)


@given(choices)
def test_json_round_trip(described: Preprocess) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(described.to_json()))) == described


def test_specs(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PRESETS["imagenet"].to_json()))
    assert Preprocess.from_spec(str(path)) == Preprocess.from_spec("imagenet") == PRESETS["imagenet"]
    assert Preprocess.from_spec("imagenet,size=128x96,crop_fraction=1") == Preprocess(
        (128, 96), "shortest-then-center-crop", 1.0, color="rgb", scale=1 / 255,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip
    assert Preprocess.from_spec("scale=1/127.5, mean=1, std=1").scale == 1 / 127.5
    assert Preprocess.from_spec("size=32").size == (32, 32)
    assert Preprocess.from_spec("mean=1:2:3").mean == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("imagnet", "'imagnet' is no preset"),
        ("unit,imagenet", "'imagenet' is no preset and no key=value"),
        ("sise=32x32", "unknown key 'sise'"),
        ("size=32x", "size=32x is not a number"),
        ("size=0x5", "size must be"),
        ("size=1x2x3", "size must be"),
        ("resize=crop", "resize must be one of stretch"),
        ("scale=0", "scale and std not 0"),
        ("scale=1/0", "is not a number"),
        ("scale=nan", "must be finite"),
        ("std=0:1:1", "scale and std not 0"),
        ("mean=1:2", "one value, or one a channel"),
        ("color=grayscale,mean=1:2:3", "one value, or one a channel"),
        ("pad=300", "pad must be"),
        ("crop_fraction=0", "crop_fraction must be"),
        ("missing.json", "cannot read missing.json"),
        ("", "'' is no preset"),
    ],
)
def test_a_bad_spec_is_one_line(spec: str, reason: str) -> None:
    with pytest.raises(FeedError, match=reason) as caught:
        Preprocess.from_spec(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values", [[], {"size": "32"}, {"scale": True}, {"mean": [True]}, {"pad": 1.5}, {"scale": None}]
)
def test_bad_json_is_refused(values: object) -> None:
    with pytest.raises(FeedError):
        Preprocess.from_json(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "shape", "dtype", "reason"),
    [
        ("unit", ("n", 3, 32, 3), "float32", "say layout"),
        ("unit", ("n", 8, 32, 4), "float32", "say layout"),
        ("unit", ("n", "h", "w", 3), "float32", "say size"),
        ("unit", (4, 32, 32, 3), "float32", "fixed batch of 4"),
        ("unit", ("n", 10), "float32", "takes no images"),
        ("unit,size=16x16", (1, 32, 32, 3), "float32", "size 16x16 is not the input's 32x32"),
        ("unit,color=grayscale", (1, 32, 32, 3), "float32", "grayscale images do not fit an input of 3 channels"),
        ("unit,dtype=float16", (1, 32, 32, 3), "float32", "dtype float16 is not the input's float32"),
        ("raw-0-255", (1, 32, 32, 3), "int8", "values 0 to 255 do not fit an input of int8"),
        ("scale=1000", (1, 32, 32, 3), "float16", "do not fit an input of float16"),
        ("unit,layout=NCHW", (1, 32, 3), "float32", "layout NCHW does not fit"),
    ],
)
def test_what_does_not_fit_the_input_is_refused(
    spec: str, shape: tuple[int | str, ...], dtype: str, reason: str
) -> None:
    with pytest.raises(FeedError, match=reason):
        Preprocess.from_spec(spec).fit(shape, dtype)


def test_a_layout_that_is_said_settles_what_a_shape_leaves_open() -> None:
    assert fitted("unit,layout=NCHW", ("n", 3, 32, 3)).size == (32, 3)
    assert fitted("unit,size=7x9", ("n", "h", "w", 3)).apply(noise(3, 3)).shape == (7, 9, 3)


@pytest.mark.parametrize(
    "image", [noise(4, 4).astype(float), noise(4, 4, 4), noise(4, 0), np.zeros(4, np.uint8)], ids=str
)
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(FeedError, match="expected a"):
        fitted("unit").apply(image)


def test_an_open_description_is_refused() -> None:
    with pytest.raises(FeedError, match="fit it to the model"):
        Preprocess().apply(noise(4, 4))
