"""Scores of both tasks against numbers that were worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recipe.raws import refused
from torch import Tensor, nn

from limbeck.data import Images
from limbeck.evaluate import evaluate, summary
from limbeck.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, Task, measured
from limbeck.tasks.multilabel import average_precision

each = pytest.mark.parametrize
NAN = math.nan


class Lookup(nn.Module):
    """Answers image i, whose pixels are i, with row i of a table."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(rows))

    def forward(self, x: Tensor) -> Tensor:
        return self.table[x[:, 0, 0, 0].long()]


def same(images: Tensor) -> Tensor:
    return images


def numbered(labels: list[list[float]]) -> Images:
    target = torch.tensor(labels, dtype=torch.float32)
    pixels = torch.arange(len(target), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Images(pixels, target, tuple("abc"[: target.shape[1]]))


# ---- average precision


@each(
    ("scores", "flags", "right"),
    [
        ([4, 3, 2, 1], [1, 0, 1, 0], (1 + 2 / 3) / 2),
        ([4, 3, 2, 1], [0, 0, 0, 1], 1 / 4),
        ([4, 3, 2, 1], [1, 1, 0, 0], 1),
        ([1, 1, 1, 1], [1, 0, 0, 0], 1 / 4),
        ([2, 2, 1, 1], [1, 0, 1, 0], (1 / 2 + 1 / 2) / 2),
        ([3, 2, 2, 2, 1], [1, 1, 0, 0, 1], (1 + 2 / 4 + 3 / 5) / 3),
        ([5], [1], 1),
    ],
)
def test_average_precision_by_hand(scores: list[float], flags: list[float], right: float) -> None:
    found = average_precision(torch.tensor(scores).float(), torch.tensor(flags).float())
    assert found == pytest.approx(right, rel=1e-12)


def test_without_a_positive_there_is_no_average_precision() -> None:
    assert average_precision(torch.tensor([1.0, 2.0]), torch.zeros(2)) is None


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_equal_scores_may_come_in_any_order(rows: list[tuple[int, bool]]) -> None:
    """The sum over thresholds, each written out."""
    scores, flags = (torch.tensor(x).double() for x in zip(*rows, strict=True))
    found = average_precision(scores, flags)
    positives, before, expected = float(flags.sum()), 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = float(flags[taken].sum()) / positives if positives else 0.0
        expected += (recall - before) * float(flags[taken].mean())
        before = recall
    turned = average_precision(scores.flip(0), flags.flip(0))
    assert (found, turned) == ((None, None) if not positives else (pytest.approx(expected),) * 2)


# ---- several labels


LOGITS = [[2.0, -1.0], [1.0, 1.0], [-1.0, 2.0], [0.0, -3.0]]
FLAGS = [[1.0, 0.0], [0.0, 1.0], [1.0, NAN], [NAN, NAN]]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_several_labels_by_hand() -> None:
    """Of a: sure of image 0, a false alarm at 1, a miss at 2. Of b: both known ones right."""
    document = evaluate(Lookup(LOGITS), same, numbered(FLAGS), task=MULTILABEL)
    assert document["examples"] == 3
    assert document["per_class"]["a"] == {"ap": pytest.approx(5 / 6), "f1": 0.5, "count": 2}
    assert document["per_class"]["b"] == {"ap": 1.0, "f1": 1.0, "count": 1}
    assert document["map"] == pytest.approx(11 / 12)
    assert document["macro_f1"] == pytest.approx(0.75)
    assert document["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    costs = [softplus(-2), softplus(1), softplus(1), softplus(-1), softplus(-1)]
    assert document["nll"] == pytest.approx(sum(costs) / 3)
    assert document["teacher"] is document["retention"] is document["agreement"] is None


def test_a_teacher_of_several_labels_beside_the_student() -> None:
    """Three of the six decisions about labelled images agree."""
    teacher = Lookup([[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [9.0, 9.0]])
    images = numbered(FLAGS)
    document = evaluate(Lookup(LOGITS), same, images, task=MULTILABEL, teacher=(teacher, same))
    assert document["retention"] == pytest.approx(11 / 12)
    assert document["agreement"] == pytest.approx(3 / 6)
    told = summary(document)
    assert told.startswith("mAP 91.67 % on test (3 images): 91.67 % of its teacher's, with ")
    assert "same decisions as the teacher for 50.00 % of the labels" in told
    assert "hardest by AP: a 83.33 %, b 100.00 %" in told


def test_a_class_without_positives_is_left_out_of_the_means() -> None:
    document = evaluate(
        Lookup([[1.0, -1.0], [-1.0, -1.0]]),
        same,
        numbered([[1.0, 0.0], [0.0, 0.0]]),
        task=MULTILABEL,
    )
    assert document["per_class"]["b"] == {"ap": None, "f1": None, "count": 0}
    assert (document["map"], document["macro_f1"], document["micro_f1"]) == (1.0, 1.0, 1.0)


# ---- numbers


def test_numbers_by_hand() -> None:
    """Of a errors 1, 0, -2 about targets 1, 2, 6; b is constant; c is known once."""
    rows = [[2.0, 1.0, 0.0], [2.0, 1.0, 7.0], [4.0, 4.0, 7.0]]
    targets = [[1.0, 1.0, 0.5], [2.0, 1.0, NAN], [6.0, 1.0, NAN]]
    document = evaluate(Lookup(rows), same, numbered(targets), task=REGRESSION)
    a, b, c = document["per_class"].values()
    assert a == pytest.approx({"mae": 1, "rmse": math.sqrt(5 / 3), "r2": 1 - 5 / 14, "count": 3})
    assert (b["mae"], b["rmse"], b["r2"]) == (1, pytest.approx(math.sqrt(3)), None)
    assert c == {"mae": 0.5, "rmse": 0.5, "r2": None, "count": 1}
    assert document["mae"] == pytest.approx(2.5 / 3)
    assert document["rmse"] == pytest.approx((math.sqrt(5 / 3) + math.sqrt(3) + 0.5) / 3)
    assert document["r2"] == pytest.approx(1 - 5 / 14)


def test_a_teacher_of_numbers_beside_the_student() -> None:
    """Errors 1 and 1 of the student, 0.5 and 0 of its teacher."""
    images = numbered([[1.0], [3.0]])
    student, teacher = Lookup([[2.0], [2.0]]), Lookup([[1.5], [3.0]])
    document = evaluate(student, same, images, task=REGRESSION, teacher=(teacher, same))
    assert document["retention"] == pytest.approx(0.25)
    assert document["fidelity_mae"] == pytest.approx(0.75)
    assert document["r2"] == 0
    told = summary(document)
    assert told.startswith("MAE 1 on test (2 images): 4.00 times its teacher's, with ")
    assert "differs from its teacher by 0.75 on average\nhardest by R2: a 0.0000" in told


# ---- all tasks


@each("task", TASKS.values(), ids=list(TASKS))
def test_a_task_keeps_its_headline_and_is_found_by_it(task: Task) -> None:
    assert task.headline.key in task.kept
    assert measured({task.headline.key: 1.0}) is task
    known = {measure.key for measure in task.measures}
    assert set(task.kept) <= known
    assert measured({}) is CLASSIFICATION


@each("task", [MULTILABEL, REGRESSION], ids=["multilabel", "regression"])
def test_nothing_known_is_refused_and_answers_must_be_finite(task: Task) -> None:
    line = refused(evaluate, Lookup([[1.0]]), same, numbered([[NAN]]), task=task)
    assert line == "`images` must hold labelled images, got 1 images without a label"
    line = refused(evaluate, Lookup([[NAN]]), same, numbered([[1.0]]), task=task)
    assert line.endswith("logits must be finite, got NaN or infinity")


@each("task", [MULTILABEL, REGRESSION], ids=["multilabel", "regression"])
def test_training_watches_the_headline_of_unlabelled_images_too(task: Task) -> None:
    scores = task.watched([(torch.tensor(LOGITS), torch.full((4, 2), NAN))], ["a", "b"])
    assert scores[task.headline.key] is None
    rows = [(torch.tensor(LOGITS)[k:][:1], torch.tensor(FLAGS)[k:][:1]) for k in range(4)]
    whole = evaluate(Lookup(LOGITS), same, numbered(FLAGS), task=task)
    assert task.watched(rows, ["a", "b"]) == pytest.approx(
        {key: whole[key] for key in scores}, rel=1e-6
    )
