from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haversack.runtimes.errors import BundleError
from haversack.runtimes.manifest import (
    File,
    GoldenArray,
    GoldenVector,
    Manifest,
    Provenance,
    Tensor,
    Tolerance,
    Variant,
    parse_manifest,
)
from haversack.runtimes.preprocess import PRESETS

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
name = st.text("abcdefgh_0123456789", min_size=1, max_size=8)
sha = st.text("0123456789abcdef", min_size=64, max_size=64)
number = st.floats(0, 1e6, allow_nan=False)
optional_text = st.none() | text
dtype = st.sampled_from(["float32", "int8", "int64", "bool"])
tensors = st.builds(
    Tensor,
    name,
    dtype,
    st.lists(st.integers(0, 512) | name, max_size=5).map(tuple),
    st.none() | st.just("NHWC"),
    st.none() | st.floats(1e-6, 1e6),
    st.none() | st.integers(-128, 127),
)


def files(folder: str) -> st.SearchStrategy[File]:
    return st.builds(File, name.map(lambda one: f"{folder}/{one}.bin"), st.integers(0, 1 << 40), sha)


def arrays(names: list[str]) -> st.SearchStrategy[dict[str, GoldenArray]]:
    array = st.builds(GoldenArray, files("golden"), dtype, st.lists(st.integers(0, 9), max_size=4).map(tuple))
    return st.fixed_dictionaries(dict.fromkeys(names, array))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    unique = {"unique_by": lambda tensor: tensor.name, "max_size": 3}
    inputs = tuple(draw(st.lists(tensors, **unique)))
    outputs = tuple(draw(st.lists(tensors, **unique)))
    vector = st.builds(GoldenVector, arrays([t.name for t in inputs]), arrays([t.name for t in outputs]))
    variants = []
    for variant_id in draw(st.lists(name.map("v{}".format), min_size=1, max_size=3, unique=True)):
        variants.append(
            Variant(
                id=variant_id,
                target=draw(name),
                compression=draw(name),
                file=File(f"artifacts/{variant_id}.onnx", draw(st.integers(0, 99)), draw(sha)),
                inputs=inputs,
                outputs=outputs,
                recipe=draw(st.dictionaries(name, text, max_size=2)),
                companions=tuple(draw(st.lists(files("artifacts"), max_size=2))),
                verified=draw(st.booleans()),
                judged_by=draw(text),
                emulated=draw(st.booleans()),
                min_runtime=draw(optional_text),
                tolerance=draw(st.builds(Tolerance, number, number)),
                golden=tuple(draw(st.lists(vector, max_size=2))),
                notes=tuple(draw(st.lists(text, max_size=2))),
            )
        )
    scalars = st.dictionaries(name, text | st.integers(-(1 << 60), 1 << 60) | number | st.booleans(), max_size=3)
    provenance = st.builds(
        Provenance, text, text, sha, st.dictionaries(name, text, max_size=2), *[optional_text] * 6, scalars
    )
    return Manifest(
        name=draw(text),
        inputs=inputs,
        outputs=outputs,
        variants=tuple(variants),
        provenance=draw(provenance),
        labels=draw(st.none() | st.lists(text, max_size=3).map(tuple)),
        preprocess=draw(st.none() | st.sampled_from(list(PRESETS.values()))),
    )


@settings(max_examples=60, deadline=None)
@given(manifests())
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_json()) == manifest


def example() -> dict[str, Any]:
    tensor = Tensor("x", "float32", (1, 4))
    array = GoldenArray(File("golden/a.bin", 16, "0" * 64), "float32", (1, 4))
    variant = Variant(
        "v", "onnx", "fp32", File("artifacts/m.onnx", 9, "0" * 64), (tensor,), (tensor,),
        golden=(GoldenVector({"x": array}, {"x": array}),),
    )  # fmt: skip
    manifest = Manifest("m", (tensor,), (tensor,), (variant,), Provenance("m.onnx", "onnx", "0" * 64))
    document: dict[str, Any] = json.loads(manifest.to_json())
    return document


def walk(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every key and list entry in a JSON document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, entry in entries:
        found += [(*path, key), *walk(entry, (*path, key))]
    return found


def parent(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


OPTIONAL = {
    "labels", "preprocess", "layout", "scale", "zero_point", "min_runtime", "calibration", "calibration_sha256",
    "evaluation", "evaluation_sha256", "training_data", "code_commit",
}  # fmt: skip


@pytest.mark.parametrize("path", [p for p in walk(example()) if isinstance(p[-1], str)], ids=str)
def test_a_missing_key_is_refused_unless_it_is_optional(path: tuple[Any, ...]) -> None:
    document = example()
    del parent(document, path)[path[-1]]
    if path[-1] in OPTIONAL:
        parse_manifest(json.dumps(document))
    else:
        with pytest.raises(BundleError, match=r"manifest\.json"):
            parse_manifest(json.dumps(document))


@pytest.mark.parametrize("path", walk(example()), ids=str)
@pytest.mark.parametrize("wrong", [[[]], {"?": []}, -1.5], ids=["list", "object", "number"])
def test_a_wrong_type_is_refused_with_its_place(path: tuple[Any, ...], wrong: object) -> None:
    document = example()
    parent(document, path)[path[-1]] = wrong
    with pytest.raises(BundleError, match=r"^manifest\.json") as caught:
        parse_manifest(json.dumps(document))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", [(), ("inputs", 0), ("variants", 0), ("variants", 0, "file"), ("provenance",)], ids=str
)
def test_an_unknown_key_is_refused_now_and_skipped_from_a_newer_minor_version(path: tuple[Any, ...]) -> None:
    document = example()
    parent(document, (*path, ""))["novelty"] = 1
    with pytest.raises(BundleError, match="unknown key 'novelty'"):
        parse_manifest(json.dumps(document))
    document["schema"] = "1.1"
    assert parse_manifest(json.dumps(document)).schema == (1, 1)


@pytest.mark.parametrize("schema", ["2.0", "0.9", "1", 1.0, None, "1.x", "1.0.0", "-1.0", "١.0"])
def test_an_unknown_version_is_refused(schema: object) -> None:
    document = example() | {"schema": schema}
    with pytest.raises(BundleError, match="schema"):
        parse_manifest(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"a": 1, "a": 2}', '{"schema": NaN}', "[" * 100_000, b"\xff\xfe", '{"schema": "1.0"'],
    ids=["empty", "list", "null", "twice", "nan", "deep", "bytes", "cut"],
)
def test_what_is_no_json_object_is_refused_in_one_line(text: str | bytes) -> None:
    with pytest.raises(BundleError) as caught:
        parse_manifest(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["m.onnx", "/artifacts/m", "artifacts/../m", "artifacts/a/b", "golden/m", "artifacts/..", "artifacts//m"]
)
def test_a_file_outside_its_folder_is_refused(path: str) -> None:
    document = example()
    document["variants"][0]["file"]["path"] = path
    with pytest.raises(BundleError, match="path must be artifacts/NAME"):
        parse_manifest(json.dumps(document))


def test_contradictions_are_refused() -> None:
    twice = example()
    twice["variants"] *= 2
    with pytest.raises(BundleError, match="two variants are called v"):
        parse_manifest(json.dumps(twice))
    other = example()
    other["variants"][0]["golden"][0]["inputs"]["z"] = other["variants"][0]["golden"][0]["inputs"].pop("x")
    with pytest.raises(BundleError, match="golden vector names other inputs"):
        parse_manifest(json.dumps(other))
    fewer = example()
    fewer["variants"][0]["inputs"] = []
    with pytest.raises(BundleError, match="other inputs or outputs than the model"):
        parse_manifest(json.dumps(fewer))
