"""scikit-learn models, as `.onnx` of skl2onnx and as `.skops`, judged by scikit-learn's own predictions."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from haversack.convert.errors import SourceError, UnsupportedError
from haversack.convert.pipeline import convert
from haversack.convert.sources import read
from haversack.convert.sources.scikit_learn import _check_trees

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")

from sklearn.datasets import load_iris  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402
from sklearn.tree import DecisionTreeClassifier  # noqa: E402

NAMES = np.array(["setosa", "versicolor", "virginica"])

CLASSIFIERS = {
    "forest": lambda: RandomForestClassifier(8, random_state=0),
    "boosted": lambda: GradientBoostingClassifier(n_estimators=4, random_state=0),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "scaled logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "normalized logistic": lambda: make_pipeline(MinMaxScaler(), Normalizer(), LogisticRegression()),
    "neighbours": lambda: KNeighborsClassifier(3),
    "vote": lambda: VotingClassifier(
        [("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=2, random_state=0))],
        voting="soft",
        flatten_transform=False,
    ),
    "support vectors": lambda: SVC(probability=True, random_state=0),
}
REGRESSORS = {"linear": LinearRegression, "trees": lambda: ExtraTreesRegressor(5, random_state=0)}


@pytest.fixture(scope="module")
def iris() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_iris(return_X_y=True)
    return x.astype(np.float32), y


def exported(estimator, x, path: Path, **options) -> Path:
    proto = skl2onnx.to_onnx(estimator, x[:1], options=options or None, target_opset={"": 21, "ai.onnx.ml": 3})
    path.write_bytes(proto.SerializeToString())
    return path


def run(path: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


@pytest.mark.parametrize("labels", ["integers", "names", "other integers"])
@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_classifier_gives_scikit_learns_predictions(iris, tmp_path, kind, labels) -> None:
    x, y = iris
    y = {"integers": y, "names": NAMES[y], "other integers": 10 * y + 3}[labels]
    estimator = CLASSIFIERS[kind]().fit(x, y)
    source = exported(estimator, x, tmp_path / "m.onnx")
    assert "ZipMap" in {node.op_type for node in onnx.load(source).graph.node}
    made = convert(source, output=tmp_path / "out.onnx", inputs={"X": x})
    assert made.verified
    assert "onnxruntime" in made.variant.verification.by
    for artifact in (tmp_path / "out.onnx", tmp_path / "out.ort"):
        got = run(artifact, x)
        assert set(got) == {"output_label", "output_probability"}
        np.testing.assert_allclose(got["output_probability"], estimator.predict_proba(x), atol=2e-6)
        wanted = estimator.predict(x)
        if labels == "names":
            wanted = np.searchsorted(NAMES, wanted)
        assert got["output_label"].dtype.kind == "i"
        np.testing.assert_array_equal(got["output_label"], wanted)
    assert not {"ZipMap"} & {node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node}
    assert any("ZipMap" in note for note in made.variant.notes)
    assert any("index instead of its name: 0 setosa" in note for note in made.variant.notes) == (labels == "names")


@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_regressor_gives_scikit_learns_predictions(iris, tmp_path, kind) -> None:
    x, _ = iris
    estimator = REGRESSORS[kind]().fit(x, x @ np.array([1, -2, 0.5, 3]))
    source = exported(estimator, x, tmp_path / "m.onnx")
    convert(source, output=tmp_path / "out.onnx", inputs={"X": x})
    (got,) = run(tmp_path / "out.ort", x).values()
    # Sums of a handful of products in float32: a few roundings of the largest term, 2 * 4.4 here.
    np.testing.assert_allclose(got[:, 0], estimator.predict(x), atol=8 * np.finfo(np.float32).eps * 8.8, rtol=1e-6)


def test_a_wrong_column_order_would_be_found(iris, tmp_path, monkeypatch) -> None:
    from haversack.convert.errors import VerificationError
    from haversack.convert.sources import classifiers

    x, y = iris
    source = exported(RandomForestClassifier(4, random_state=0).fit(x, NAMES[y]), x, tmp_path / "m.onnx")
    monkeypatch.setattr(classifiers, "_classes", lambda _node: ("virginica", "versicolor", "setosa"))
    with pytest.raises(VerificationError, match="does not compute"):
        convert(source, output=tmp_path / "out.onnx", inputs={"X": x})
    assert not (tmp_path / "out.onnx").exists()


def test_the_class_names_reach_the_bundle(iris, tmp_path) -> None:
    from haversack.convert.packing import pack
    from haversack.runtimes import open_bundle

    x, y = iris
    source = exported(LogisticRegression().fit(x, NAMES[y]), x, tmp_path / "m.onnx")
    pack(source, to=["onnx"], recipes=["fp32"], output=tmp_path / "m.haversack")
    with open_bundle(tmp_path / "m.haversack") as bundle:
        assert tuple(bundle.manifest.labels) == tuple(NAMES)


def test_strings_that_cannot_be_numbered_are_left_out(tmp_path) -> None:
    encode = helper.make_node("LabelEncoder", ["x"], ["name"], domain="ai.onnx.ml", keys_int64s=[0, 1],
                              values_strings=["no", "yes"])  # fmt: skip
    upper = helper.make_node("StringNormalizer", ["name"], ["loud"], case_change_action="UPPER")
    twice = helper.make_node("Add", ["x", "x"], ["twice"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [encode, upper, twice], "g", [value("x", onnx.TensorProto.INT64, [2])],
        [value("loud", onnx.TensorProto.STRING, [2]), value("twice", onnx.TensorProto.INT64, [2])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    source = read(tmp_path / "m.onnx")
    assert [value.name for value in source.model.graph.outputs] == ["twice"]
    assert "loud holds strings" in source.notes[0]
    del graph.output[1]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(SourceError, match="every output holds strings"):
        read(tmp_path / "m.onnx")


def test_a_plain_model_is_read_as_before(tmp_path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["":21]> g (float[2] x) => (float[2] y) {y = Abs(x)}'
    )
    onnx.save(proto, tmp_path / "m.onnx")
    source = read(tmp_path / "m.onnx")
    assert (dict(source.restated), source.notes) == ({}, ())


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".pickle"])
def test_a_pickle_is_refused_unread(tmp_path, suffix) -> None:
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / f"m{suffix}"
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(SourceError, match=r"pickle.*skl2onnx"):
        read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow  # importing skops takes seconds
@pytest.mark.parametrize("kind", ["forest", "scaled logistic"])
def test_a_skops_file_is_held_against_scikit_learn(iris, tmp_path, kind) -> None:
    sio = pytest.importorskip("skops.io", reason="skops is not installed")
    x, y = iris
    estimator = CLASSIFIERS[kind]().fit(x, NAMES[y])
    sio.dump(estimator, tmp_path / "m.skops")
    made = convert(tmp_path / "m.skops", to="onnx", output=tmp_path / "out.onnx", inputs={"X": x})
    assert made.variant.verification.by.startswith("onnxruntime")
    assert made.model.format == "skops"
    assert not any("model as read" in note for note in made.variant.notes)
    got = run(tmp_path / "out.onnx", x)
    np.testing.assert_allclose(got["probabilities"], estimator.predict_proba(x), atol=2e-6)
    np.testing.assert_array_equal(NAMES[got["label"]], estimator.predict(x))


@pytest.mark.slow
def test_a_skops_file_of_foreign_types_is_refused(iris, tmp_path) -> None:
    sio = pytest.importorskip("skops.io", reason="skops is not installed")
    from sklearn.preprocessing import FunctionTransformer

    sio.dump(FunctionTransformer(Path.touch).fit(iris[0]), tmp_path / "m.skops")
    with pytest.raises(SourceError, match="types that are not"):
        read(tmp_path / "m.skops")
    (tmp_path / "n.skops").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(SourceError, match="not a skops file"):
        read(tmp_path / "n.skops")


def test_a_tree_that_leads_out_of_itself_is_refused(iris) -> None:
    class Tree:
        __module__ = "sklearn.tree._tree"

        def __init__(self, left, feature):
            self.node_count, self.n_features = 3, 4
            self.children_left, self.children_right = np.array([left, -1, -1]), np.array([2, -1, -1])
            self.feature = np.array([feature, -2, -2])

    _check_trees([Tree(1, 0)], "m")
    for left, feature in ((7, 0), (0, 0), (1, 9)):
        with pytest.raises(SourceError, match="damaged"):
            _check_trees([Tree(left, feature)], "m")
    _check_trees(RandomForestClassifier(3, random_state=0).fit(*iris), "m")


def test_a_target_of_plain_operators_refuses_trees_clearly(iris, tmp_path) -> None:
    source = exported(RandomForestClassifier(3, random_state=0).fit(*iris), iris[0], tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="TreeEnsembleClassifier"):
        convert(source, to="tflite", output=tmp_path / "m.tflite")
