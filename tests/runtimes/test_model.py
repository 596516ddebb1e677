from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.bundle import write_zip
from haversack.runtimes import BundleError, EngineError, FeedError, load
from haversack.runtimes.engines import TensorSpec
from haversack.runtimes.feeds import FeedCheck
from haversack.runtimes.golden import check_golden
from haversack.runtimes.manifest import File, Manifest, Tolerance, Variant
from haversack.runtimes.measurements import Measurements, VariantMeasurements, parse_measurements
from haversack.runtimes.selection import choose

from .conftest import PROVENANCE, double_bundle, latency, onnx_double
from .test_bundle import members

X = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)


@pytest.mark.parametrize("variant", ["onnx-fp32", "tflite-fp32"])
def test_every_variant_speaks_the_models_names(bundle: Path, variant: str) -> None:
    with load(bundle, variant=variant, verify=True) as model:
        assert [spec.name for spec in (*model.inputs, *model.outputs)] == ["x", "y"]
        assert model.variant is not None
        assert model.variant.id == variant
        assert model.labels == ("a", "b", "c", "d")
        assert model.preprocess is not None
        assert model.preprocess.size == (8, 9)
        for inputs in ({"x": X}, X):
            outputs = model(inputs)
            assert list(outputs) == ["y"]
            np.testing.assert_array_equal(outputs["y"], X * 2)


def test_a_bare_artifact_runs_and_has_nothing_to_check(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_double())
    model = load(path)
    np.testing.assert_array_equal(model(X)["y"], X * 2)
    assert (model.variant, model.labels, model.preprocess) == (None, None, None)
    assert not model.check()
    for options, reason in [
        ({"verify": True}, "bare"),
        ({"variant": "a"}, "bare"),
        ({"engine": "litert"}, "onnxruntime"),
    ]:
        with pytest.raises((BundleError, EngineError), match=reason):
            load(path, **options)
    with pytest.raises(EngineError, match="threads"):
        load(path, threads=0)
    with pytest.raises(BundleError, match="no such"):
        load(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ({}, "expected the inputs x; found none"),
        ({"z": X}, "expected the inputs x; found z"),
        ({"x": X, "z": X}, "found x, z"),
        (X.astype(np.float64), r"input x: expected float32 \[n, 4\], found float64 \[1, 4\]; .*astype"),
        (X.astype(">f4"), "found >f4"),
        (X[0], r"found float32 \[4\]; it lacks the batch axis: x\[None\]"),
        (X[:, :3], r"expected float32 \[n, 4\], found float32 \[1, 3\]"),
        (X[:0], r"found float32 \[0, 4\]"),
        ({"x": X.tolist()}, "as a NumPy array, found list"),
        ([1.0], "expected a dict of NumPy arrays or one array, found list"),
        (np.array([[1, np.nan, 1, 1]], np.float32), r"finite values, found nan at \[0, 1\]"),
        (np.array([[1, 1, np.inf, -np.inf]], np.float32), r"finite values, found inf at \[0, 2\]"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_in_one_line(bundle: Path, feeds: object, reason: str) -> None:
    model = load(bundle, variant="onnx-fp32")
    with pytest.raises(FeedError, match=reason) as caught:
        model(feeds)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_symbolic_dimension_is_the_same_in_all_inputs() -> None:
    check = FeedCheck([TensorSpec("a", "int32", ("n", 2)), TensorSpec("b", "int32", ("n", "m", "m"))])

    def feeds(a: tuple[int, ...], b: tuple[int, ...]) -> dict[str, np.ndarray]:
        return {"a": np.zeros(a, np.int32), "b": np.zeros(b, np.int32)}

    check(feeds((3, 2), (3, 5, 5)))
    for b in [(2, 5, 5), (3, 5, 4)]:
        with pytest.raises(FeedError, match=r"input b: expected int32.*, where n is 3"):
            check(feeds((3, 2), b))


@given(st.lists(st.floats(width=32), min_size=1, max_size=8))
def test_only_finite_values_pass(values: list[float]) -> None:
    check = FeedCheck([TensorSpec("a", "float32", ("n",))])
    array = np.array(values, np.float32)
    if all(np.isfinite(values)):
        check({"a": array})
    else:
        with pytest.raises(FeedError, match="finite"):
            check({"a": array})


def test_two_inputs_need_names(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_double(("a", "b")))
    model = load(path)
    np.testing.assert_array_equal(model({"b": X, "a": X})["y"], X * 4)
    with pytest.raises(FeedError, match="inputs a, b: give a dict"):
        model(X)


def test_a_wrong_golden_vector_refuses_the_bundle(tmp_path: Path) -> None:
    wrong = [({"x": X}, {"y": X * 2}), ({"x": X}, {"y": X * 2 + 0.01})]
    from .conftest import new_variants

    path, _ = double_bundle(tmp_path, variants=new_variants(tmp_path, golden=wrong))
    with load(path, variant="onnx-fp32") as model:
        check = model.check()
        assert not check
        assert [result.ok for result in check.results] == [True, False]
        assert check.worst is not None
        assert check.worst.vector == 1
    with pytest.raises(
        BundleError, match=r"onnx-fp32 failed its check: 2 golden vectors, not within.*vector 1, output y"
    ):
        load(path, variant="onnx-fp32", verify=True)
    none, _ = double_bundle(tmp_path, "none.haversack", variants=new_variants(tmp_path, golden=()))
    with pytest.raises(BundleError, match="no golden vectors"):
        load(none, verify=True)


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "ok"),
    [
        ([1.0, 2.0], [1.0, 2.25], Tolerance(absolute=0.25), True),
        ([1.0, 2.0], [1.0, 2.25], Tolerance(absolute=0.249), False),
        ([100.0, 0.0], [100.0, 1.0], Tolerance(relative=0.01), True),
        ([100.0, 0.0], [100.0, 1.1], Tolerance(relative=0.01), False),
        ([np.nan, np.inf], [np.nan, np.inf], Tolerance(), True),
        ([np.nan, 1.0], [1.0, 1.0], Tolerance(9.0), False),
        ([1.0, np.inf], [1.0, -np.inf], Tolerance(9.0), False),
        ([1.0], [1.0, 1.0], Tolerance(9.0), False),
        (None, [1.0], Tolerance(9.0), False),
    ],
)
def test_golden_vectors_are_judged_by_their_tolerance(
    found: list[float] | None, expected: list[float], tolerance: Tolerance, ok: bool
) -> None:
    outputs = {} if found is None else {"y": np.array(found)}
    check = check_golden(lambda _: outputs, [({}, {"y": np.array(expected)})], tolerance)
    assert bool(check) is ok


def test_integers_are_compared_without_wrapping_around() -> None:
    low, high = np.array([-128], np.int8), np.array([127], np.int8)
    check = check_golden(lambda _: {"y": low}, [({}, {"y": high})], Tolerance(absolute=254))
    assert check.results[0].difference == 255


def test_an_artifact_that_is_not_what_the_manifest_says_is_refused(bundle: Path) -> None:
    contents = members(bundle)
    document = json.loads(contents["manifest.json"])
    for key, value, reason in [
        ("name", "other", "where the manifest says other"),
        ("dtype", "int8", "in the manifest"),
    ]:
        changed = json.loads(json.dumps(document))
        variant = next(entry for entry in changed["variants"] if entry["id"] == "onnx-fp32")
        variant["inputs"][0][key] = value
        write_zip(bundle, contents | {"manifest.json": json.dumps(changed).encode()})
        with pytest.raises(BundleError, match=reason):
            load(bundle, variant="onnx-fp32")


def test_a_closed_model_says_so_and_leaves_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for variant in ("onnx-fp32", "tflite-fp32"):
        with load(bundle, variant=variant, verify=True) as model:
            assert list(temporary.iterdir()) == []  # the engine reads it from memory
        with pytest.raises(EngineError, match="closed"):
            model(X)
        model.close()
    assert list(temporary.iterdir()) == []


def test_a_package_is_extracted_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is a stand-in: what is tested is the folder's life, not Core ML."""
    from haversack.convert.bundle import NewVariant
    from haversack.runtimes import model as module
    from haversack.runtimes.engines import open_engine

    from .conftest import MODEL_INPUT, MODEL_OUTPUT

    package = tmp_path / "m.mlpackage"
    package.mkdir()
    (package / "model.onnx").write_bytes(onnx_double())
    variant = NewVariant("coreml-fp32", "coreml", "fp32", package, (MODEL_INPUT,), (MODEL_OUTPUT,))
    path, _ = double_bundle(tmp_path, variants=[variant])
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(
        module, "open_engine", lambda folder, threads, **_: open_engine(folder / "model.onnx", threads=threads)
    )
    with load(path) as model:
        assert len(list(temporary.rglob("model.onnx"))) == 1
        np.testing.assert_array_equal(model(X)["y"], X * 2)
    assert list(temporary.iterdir()) == []
    model = load(path)
    del model
    assert list(temporary.iterdir()) == []

    def failing(_: Path, *, threads: int, engine: str | None) -> None:
        assert (threads, engine) == (1, None)
        raise EngineError("no")

    monkeypatch.setattr(module, "open_engine", failing)
    with pytest.raises(EngineError, match="no"):
        load(path)
    assert list(temporary.iterdir()) == []


def variant(variant_id: str, suffix: str, size: int, **changes: bool) -> Variant:
    return Variant(variant_id, "t", "c", File(f"artifacts/{variant_id}{suffix}", size, "0" * 64), (), (), **changes)


def chosen(*variants: Variant, engine: str | None = None, p50: dict[str, tuple[str, float]] | None = None) -> str:
    measured = {name: VariantMeasurements(latencies=(latency(*row),)) for name, row in (p50 or {}).items()}
    manifest = Manifest("m", (), (), variants, PROVENANCE)
    return choose(manifest, Measurements(variants=measured), engine).id


def test_the_choice_follows_its_rule() -> None:
    small, large = variant("small", ".onnx", 1, verified=True), variant("large", ".tflite", 9, verified=True)
    assert chosen(large, small) == "small"
    assert chosen(small, large, p50={"large": ("litert", 5.0)}) == "large"
    assert chosen(small, large, p50={"large": ("litert", 5.0), "small": ("onnxruntime", 4.0)}) == "small"
    assert chosen(small, large, p50={"small": ("litert", 5.0)}) == "small"
    assert chosen(small, variant("other", ".tflite", 0), p50={"other": ("litert", 0.1)}) == "small"
    package = variant("package", ".mlpackage", 0, verified=True)
    assert chosen(package, variant("other", ".tflite", 9)) == "other"
    assert chosen(package) == "package"
    assert chosen(small, large, engine="litert") == "large"
    twin = variant("a-twin", ".onnx", 1, verified=True)
    assert chosen(small, twin) == chosen(twin, small) == "a-twin"


def test_a_choice_that_cannot_be_made_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    small = variant("small", ".onnx", 1)
    with pytest.raises(EngineError, match="no variant runs in litert; its variants need onnxruntime"):
        chosen(small, engine="litert")
    with pytest.raises(EngineError, match="unknown engine 'tpu'"):
        chosen(small, engine="tpu")
    from haversack.runtimes import selection as module

    monkeypatch.setattr(module, "is_installed", lambda name: name == "litert")
    with pytest.raises(EngineError, match="onnxruntime engine is not installed"):
        chosen(small, engine="onnxruntime")
    assert chosen(small, variant("large", ".tflite", 9)) == "large"


def test_a_variant_and_an_engine_that_contradict(bundle: Path) -> None:
    with pytest.raises(BundleError, match="runs in onnxruntime, not in litert"):
        load(bundle, variant="onnx-fp32", engine="litert")
    with load(bundle, engine="onnxruntime") as model:
        assert model.engine.name == "onnxruntime"


def test_measurements_come_back_and_newer_keys_are_skipped() -> None:
    measured = Measurements(
        "2024-01-01",
        "m",
        {"v": VariantMeasurements(0.9, None, (latency("litert", 1.0), latency("litert", 0.5)), {"a": 1})},
    )
    assert parse_measurements(measured.to_json()) == measured
    fastest = measured.latency("v", "litert")
    assert fastest is not None
    assert fastest.p50_ms == 0.5
    newer = json.loads(measured.to_json())
    newer["variants"]["v"]["energy"] = 1
    assert parse_measurements(json.dumps(newer)) == measured
    with pytest.raises(ValueError, match="JSON"):
        Measurements(variants={"v": VariantMeasurements(float("nan"))}).to_json()


def test_the_models_preprocessing_is_completed_for_the_variants_own_layout(tmp_path: Path) -> None:
    from haversack.convert.bundle import NewVariant
    from haversack.runtimes.manifest import Tensor
    from haversack.runtimes.preprocess import Preprocess

    first, last = (Tensor("x", "float32", shape) for shape in ((1, 3, 5, 6), (1, 5, 6, 3)))
    variants = []
    for name, tensor in (("first", first), ("last", last)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(onnx_double(shape=tensor.shape))
        variants.append(NewVariant(name, "onnx", "fp32", path, (tensor,), (Tensor("y", "float32", tensor.shape),)))
    path, _ = double_bundle(
        tmp_path, inputs=[first], variants=variants, preprocess=Preprocess.from_spec("unit,layout=NCHW")
    )
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    outputs = {}
    for name in ("first", "last"):
        with load(path, variant=name) as model:
            assert model.preprocess is not None
            outputs[name] = model(model.preprocess.apply(image)[None])["y"]
    np.testing.assert_array_equal(outputs["first"].transpose(0, 2, 3, 1), outputs["last"])
