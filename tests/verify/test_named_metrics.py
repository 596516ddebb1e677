"""`--metric`: each against scikit-learn's, and a function of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from haversack.convert.errors import DataError, UsageError
from haversack.convert.verify.accuracy import Measure, measure_of
from haversack.convert.verify.metrics import Truth, open_metric
from haversack.convert.verify.metrics.metric import Outputs


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def drawn(seed: int, rows: int = 80, classes: int = 8) -> tuple[Outputs, Truth]:
    """Class scores, noisier ones, and labels that the scores mostly hit, every class among them."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=rows - classes)])
    source = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    found = source + rng.normal(0, 0.7, size=source.shape)
    outputs = {"scores": softmax(found).astype(np.float32)}
    return outputs, Truth({"scores": softmax(source).astype(np.float32)}, labels, "scores", rows)


def value(name: str, outputs: Outputs, truth: Truth) -> float:
    return Measure(open_metric(name))(outputs, truth).value


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_top1_and_top5_are_sklearns(seed: int) -> None:
    outputs, truth = drawn(seed)
    assert truth.labels is not None
    scores = outputs["scores"]
    assert value("top1", outputs, truth) == pytest.approx(
        sklearn.accuracy_score(truth.labels, scores.argmax(axis=1)), abs=1e-12
    )
    theirs = sklearn.top_k_accuracy_score(truth.labels, scores, k=5, labels=range(8))
    assert value("top5", outputs, truth) == pytest.approx(theirs, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_auc_is_sklearns(seed: int) -> None:
    outputs, truth = drawn(seed, classes=4)
    scores = outputs["scores"].astype(np.float64)
    exact = {"scores": scores / scores.sum(axis=1, keepdims=True)}  # sklearn insists
    theirs = sklearn.roc_auc_score(truth.labels, exact["scores"], multi_class="ovr", average="macro")
    assert value("auc", exact, truth) == pytest.approx(theirs, abs=1e-12)
    two, binary = drawn(seed, classes=2)
    theirs = sklearn.roc_auc_score(binary.labels, two["scores"][:, 1].astype(np.float64))
    assert value("auc", two, binary) == pytest.approx(theirs, abs=1e-6)  # the float32 pair does not quite sum to 1


def test_equal_scores_count_half_in_an_auc() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    scores = np.round(rng.normal(size=(200, 1)) + labels[:, None]).astype(np.float32)
    truth = Truth({"s": scores}, labels, "s", 200)
    assert value("auc", {"s": scores}, truth) == pytest.approx(sklearn.roc_auc_score(labels, scores[:, 0]), abs=1e-12)


def test_a_resampled_auc_is_that_of_the_rows_drawn() -> None:
    outputs, truth = drawn(5, classes=2)
    assert truth.labels is not None
    over = open_metric("auc").whole(outputs, truth)
    chosen = np.random.default_rng(1).integers(80, size=80)
    margin = outputs["scores"][chosen, 1] - outputs["scores"][chosen, 0]
    assert over(chosen) == pytest.approx(sklearn.roc_auc_score(truth.labels[chosen], margin), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_distances_are_sklearns(seed: int) -> None:
    outputs, truth = drawn(seed)
    assert truth.labels is not None
    wanted = np.eye(8)[truth.labels]
    found = outputs["scores"].astype(np.float64)
    assert value("mse", outputs, truth) == pytest.approx(sklearn.mean_squared_error(wanted, found), rel=1e-9)
    cosines = np.diag(sklearn.pairwise.cosine_similarity(found, wanted)).mean()
    assert value("cosine", outputs, truth) == pytest.approx(cosines, rel=1e-9)
    bare = Truth(truth.source, None, "scores", 80)
    reference = truth.source["scores"].astype(np.float64)
    measured = Measure(open_metric("mse"))(outputs, bare)
    assert measured.value == pytest.approx(sklearn.mean_squared_error(reference, found), rel=1e-9)
    assert (measured.against, measured.higher_is_better, measured.unit) == ("source", False, "")
    assert measured.drop == pytest.approx(measured.value)  # the source is at no distance from itself
    cosines = np.diag(sklearn.pairwise.cosine_similarity(found, reference)).mean()
    assert value("cosine", outputs, bare) == pytest.approx(cosines, rel=1e-9)


def test_zeros_have_a_direction_only_in_common() -> None:
    truth = Truth({"y": np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])}, None, None, 3)
    rows = open_metric("cosine").rows({"y": np.array([[0.0, 0.0], [0.0, 0.0], [2.0, 0.0]])}, truth)
    assert rows is not None
    assert rows.tolist() == [1.0, 0.0, 0.0]


def test_a_regressor_is_held_against_its_labels() -> None:
    labels = np.array([3, 5, 9])
    truth = Truth({"y": np.array([[3.0], [5.0], [8.0]])}, labels, "y", 3)
    measured = Measure(open_metric("mse"), allowed=0.5)({"y": np.array([[3.0], [6.0], [8.0]])}, truth)
    assert measured.value == pytest.approx(2 / 3)
    assert measured.difference == pytest.approx(1 / 3)
    assert measured.drop == pytest.approx(1 / 3)
    assert measured.drop_bound >= measured.drop


def test_without_labels_agreement_stands_in_with_its_own_interval() -> None:
    from scipy.stats import binomtest

    outputs, truth = drawn(7)
    bare = Truth(truth.source, None, "scores", 80)
    measured = Measure()(outputs, bare)
    kept = int((outputs["scores"].argmax(axis=1) == truth.source["scores"].argmax(axis=1)).sum())
    theirs = binomtest(kept, 80).proportion_ci(0.95, method="wilson")
    assert measured.stands_in
    assert measured.value == kept / 80
    assert (measured.low, measured.high) == pytest.approx((theirs.low, theirs.high))
    assert (measured.difference_low, measured.difference_high) == pytest.approx((theirs.low - 1, theirs.high - 1))
    assert measured.p_value is None
    assert measured.verdict == "worse"
    assert Measure()(truth.source, bare).value == 1.0


def test_an_auc_needs_labels_of_two_classes() -> None:
    outputs, truth = drawn(0)
    with pytest.raises(DataError, match="needs labels"):
        Measure(open_metric("auc"))(outputs, Truth(truth.source, None, "scores", 80))
    with pytest.raises(DataError, match="two classes"):
        Measure(open_metric("auc"))(outputs, Truth(truth.source, np.zeros(80, np.int64), "scores", 80))
    with pytest.raises(DataError, match="output of class scores"):
        Measure(open_metric("auc"))(outputs, Truth(truth.source, truth.labels, None, 80))


def test_the_five_best_of_five_say_nothing() -> None:
    outputs, truth = drawn(0, classes=5)
    with pytest.raises(DataError, match="5 classes"):
        Measure(open_metric("top5"))(outputs, truth)


@pytest.mark.parametrize("name", ["top2", "", "module:", ":function", "a b:c", "f1"])
def test_an_unknown_metric_names_the_known(name: str) -> None:
    with pytest.raises(UsageError, match=r"top1, top5, auc, mse, cosine, package\.module:function"):
        open_metric(name)


MINE = """
import numpy as np

def f1(outputs, labels):
    found = outputs["scores"].argmax(axis=1)
    both = np.sum((found == 1) & (labels == 1))
    return 2 * both / (np.sum(found == 1) + np.sum(labels == 1))

def right(outputs, labels):
    return outputs["scores"].argmax(axis=1) == labels

def far(outputs, labels):
    return np.abs(outputs["scores"].argmax(axis=1) - labels)
far.higher_is_better, far.unit = False, ""

def peak(outputs, labels):
    return outputs["scores"].max()

def short(outputs, labels):
    return np.zeros(3)

def words(outputs, labels):
    return "good"

def broken(outputs, labels):
    raise KeyError("logits")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_metrics.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("mine")
def test_a_function_of_the_users() -> None:
    outputs, truth = drawn(3, rows=200, classes=2)
    found = outputs["scores"].argmax(axis=1)
    whole = measure_of("mine_metrics:f1")(outputs, truth)
    assert whole.value == pytest.approx(sklearn.f1_score(truth.labels, found))
    assert whole.low < whole.value < whole.high
    assert whole.p_value is None
    assert "bootstrap" in whole.interval
    # A bool a sample is an accuracy, with all that goes with it.
    each, top = measure_of("mine_metrics:right")(outputs, truth), Measure()(outputs, truth)
    assert (each.value, each.p_value, each.low, each.verdict) == (top.value, top.p_value, top.low, top.verdict)
    # Nobody can say by default what much is of an unknown unit.
    assert (measure_of("mine_metrics:far")(outputs, truth).verdict, measure_of("mse").allowed) == ("", None)
    error = measure_of("mine_metrics:far", 0.01)(outputs, truth)
    assert error.drop == pytest.approx(error.difference)
    assert not error.higher_is_better


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("short", "expected one number, or 80, one a sample"),
        ("words", "expected finite numbers"),
        ("broken", "it failed: KeyError"),
        ("absent", "no function absent"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_so(name: str, said: str) -> None:
    outputs, truth = drawn(0)
    with pytest.raises(DataError, match=said):
        measure_of(f"mine_metrics:{name}")(outputs, truth)
    with pytest.raises(DataError, match="cannot import"):
        measure_of("no_such_module:metric")


@pytest.mark.usefixtures("mine")
def test_rows_that_cannot_be_drawn_ask_for_a_number_a_sample() -> None:
    _, truth = drawn(0)
    with pytest.raises(DataError, match="return one number a sample"):
        measure_of("mine_metrics:peak")({"scores": np.zeros((81, 8))}, truth)
