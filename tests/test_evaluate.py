"""Evaluation: scores against hand values and a plain loop, null where nothing can be said."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data import Images
from limbeck.errors import LimbeckError
from limbeck.evaluate import evaluate, summary
from limbeck.evaluate import speed as speed_module
from limbeck.evaluate.speed import seconds, speed
from limbeck.inputs import Preprocess
from limbeck.tasks.classification import Score, predictions
from limbeck.tasks.tally import Tally, are_probabilities

KEYS = {
    *("split", "examples", "top1", "top5", "nll", "ece", "per_class", "classes", "reliability"),
    *("confusion", "parameters", "flops", "bytes", "latency_ms", "throughput"),
}
STATED = {"batch_size", "threads", "device"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are taken as ever, but no longer than it takes to have one."""
    monkeypatch.setattr(speed_module, "SECONDS", 0.0)
    monkeypatch.setattr(speed_module, "FEWEST", 1)


class Lookup(nn.Module):
    """Answers image i, whose pixels are i, with row i of a table."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.table[x[:, 0, 0, 0].long()]


def as_they_are(images: Tensor) -> Tensor:
    return images


def numbered(labels: list[int] | Tensor, classes: int) -> Images:
    """Image i has the pixels i."""
    target = torch.as_tensor(labels)
    pixels = torch.arange(len(target), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Images(pixels, target, tuple(f"c{k}" for k in range(classes)))


def judged(logits: Tensor, labels: list[int] | Tensor, **keywords: Any) -> dict[str, Any]:
    images = numbered(labels, logits.shape[1])
    return evaluate(Lookup(logits), as_they_are, images, **keywords)


def random_case(seed: int, n: int = 97, classes: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator)
    return logits, torch.randint(0, classes, (n,), generator=generator)


def softmax(row: NDArray[np.float64]) -> NDArray[np.float64]:
    exp = np.exp(row - row.max())
    return exp / exp.sum()


def by_loop(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The same scores one image at a time, from their definitions."""
    rows, n = logits.double().numpy(), len(labels)
    top1 = top5 = nll = 0.0
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(rows, labels.tolist(), strict=True):
        p = softmax(row)
        order = sorted(range(len(p)), key=lambda k: -p[k])
        top1 += order[0] == label
        top5 += label in order[:5]
        nll -= math.log(p[label])
        inside = [k for k in range(15) if k / 15 < p[order[0]] <= (k + 1) / 15]
        bins[inside[0]].append((p[order[0]], order[0] == label))
    ece = sum(abs(sum(c for c, _ in b) - sum(r for _, r in b)) for b in bins)
    return {"top1": top1 / n, "top5": top5 / n, "nll": nll / n, "ece": ece / n}


def test_scores_have_the_values_computed_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.62, 0.38]], dtype=torch.float64)
    tally = Tally(2)
    tally.add(p.log(), torch.tensor([0, 0, 0]))
    scores = tally.scores(["cat", "dog"])
    assert scores["examples"] == 3
    assert scores["top1"] == pytest.approx(2 / 3)
    assert scores["top5"] is None
    assert scores["nll"] == pytest.approx(-math.log(0.9 * 0.1 * 0.62) / 3)
    # Two answers of confidence 0.9, one of them right, and one of 0.62 that is right.
    assert scores["ece"] == pytest.approx((abs(1.8 - 1) + abs(0.62 - 1)) / 3)
    assert scores["confusion"] == [[2, 1], [0, 0]]
    assert scores["per_class"]["cat"] == {"top1": pytest.approx(2 / 3), "count": 3}
    assert scores["per_class"]["dog"] == {"top1": None, "count": 0}
    full = {k: b for k, b in enumerate(scores["reliability"]) if b["count"]}
    assert sorted(full) == [9, 13]
    low, high = pytest.approx(13 / 15), pytest.approx(14 / 15)
    half, sure = pytest.approx(0.5), pytest.approx(0.9)
    assert full[13] == {"low": low, "high": high, "count": 2, "confidence": sure, "accuracy": half}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch_size", [1, 10, 256])
def test_scores_equal_a_plain_loop_whatever_the_batches(seed: int, batch_size: int) -> None:
    logits, labels = random_case(seed)
    document = judged(logits, labels, batch_size=batch_size)
    for name, value in by_loop(logits, labels).items():
        assert document[name] == pytest.approx(value, rel=1e-12), name


def test_top1_and_nll_are_those_that_training_reports() -> None:
    logits, labels = random_case(5)
    images = numbered(labels, 7)
    score = Score.of(predictions(Lookup(logits), as_they_are, images, batch_size=10))
    document = judged(logits, labels)
    assert (document["top1"], document["nll"]) == (score.top1, pytest.approx(score.nll, rel=1e-12))


def test_confusion_has_truth_in_rows_and_sums_to_the_scores() -> None:
    logits, labels = random_case(6)
    document = judged(logits, labels)
    confusion = np.zeros((7, 7), dtype=int)
    np.add.at(confusion, (labels.numpy(), logits.argmax(1).numpy()), 1)
    assert document["confusion"] == confusion.tolist()
    for k, row in enumerate(document["per_class"].values()):
        assert row["count"] == confusion[k].sum()
        assert row["top1"] == confusion[k, k] / confusion[k].sum()
    assert sum(b["count"] for b in document["reliability"]) == len(labels)


def test_certain_answers_fall_into_the_last_bin() -> None:
    document = judged(torch.tensor([[900.0, 0.0]]), [0])
    assert document["reliability"][14]["count"] == 1
    assert (document["nll"], document["ece"]) == (0.0, 0.0)


def test_unlabelled_images_change_nothing() -> None:
    logits, labels = random_case(7)
    labels[::3] = -100
    known = labels >= 0
    document, alone = judged(logits, labels), by_loop(logits[known], labels[known])
    assert document["examples"] == int(known.sum())
    assert {name: document[name] for name in alone} == pytest.approx(alone, rel=1e-12)


def test_a_teacher_gives_retention_agreement_and_fidelity() -> None:
    (logits, labels), (theirs, _) = random_case(8), random_case(9)
    teacher = Lookup(theirs), as_they_are
    document = judged(logits, labels, teacher=teacher, batch_size=10, split="digits:test")
    pairs = [(softmax(s), softmax(t)) for s, t in zip(logits.numpy(), theirs.numpy(), strict=True)]
    divergence = np.mean([(t * np.log(t / s)).sum() for s, t in pairs])
    agreement = np.mean([s.argmax() == t.argmax() for s, t in pairs])
    own, other = by_loop(logits, labels), by_loop(theirs, labels)
    assert document["fidelity_kl"] == pytest.approx(divergence, rel=1e-5)
    assert document["agreement"] == pytest.approx(agreement)
    assert document["retention"] == pytest.approx(own["top1"] / other["top1"])
    assert document["teacher"]["top1"] == pytest.approx(other["top1"])
    assert document["teacher"].keys() == KEYS | STATED
    assert document["teacher"]["split"] == document["split"] == "digits:test"


def test_a_student_that_answers_like_its_teacher_is_faithful() -> None:
    logits, labels = random_case(10)
    document = judged(logits, labels, teacher=(Lookup(logits), as_they_are))
    likeness = document["retention"], document["agreement"], document["fidelity_kl"]
    assert likeness == (1.0, 1.0, 0.0)


def test_teacher_and_student_each_see_the_image_in_their_own_way() -> None:
    logits, labels = random_case(11)
    backwards = Lookup(logits.flip(0)), lambda images: len(labels) - 1 - images.float()
    assert judged(logits, labels, teacher=backwards)["agreement"] == 1.0


def test_the_document_is_strict_json_with_null_where_nothing_can_be_said() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    never = Lookup(torch.tensor([[0.0, 4.0, 0.0], [4.0, 0.0, 0.0]])), as_they_are
    document = judged(logits, [0, 1], teacher=never)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document.keys() == KEYS | STATED | {"teacher", "retention", "agreement", "fidelity_kl"}
    assert document["retention"] is None
    assert document["top5"] is None
    assert document["per_class"]["c2"]["top1"] is None
    empty = document["reliability"][0]
    assert (empty["count"], empty["confidence"], empty["accuracy"]) == (0, None, None)
    alone = judged(logits, [0, 1])
    assert [alone[k] for k in ("teacher", "retention", "agreement", "fidelity_kl")] == [None] * 4


def test_five_classes_have_no_top5_and_six_have() -> None:
    assert judged(random_case(0, classes=5)[0], random_case(0, classes=5)[1])["top5"] is None
    assert judged(random_case(0, classes=6)[0], random_case(0, classes=6)[1])["top5"] is not None


@pytest.mark.parametrize("labels", [[], [-100, -100]])
def test_images_without_labels_are_refused(labels: list[int]) -> None:
    images = numbered(torch.tensor(labels, dtype=torch.int64), 3)
    expected = f"`images` must hold labelled images, got {len(labels)} images without a label"
    with pytest.raises(LimbeckError, match=f"^{expected}$"):
        evaluate(Lookup(torch.randn(2, 3)), as_they_are, images)


def test_another_number_of_classes_is_refused_with_both_counts() -> None:
    images = numbered([0, 1], 3)
    student, teacher = Lookup(torch.randn(2, 3)), Lookup(torch.randn(2, 10))
    with pytest.raises(LimbeckError, match=r"the student .* got 10 logits for 3 classes$"):
        evaluate(teacher, as_they_are, images)
    with pytest.raises(LimbeckError, match=r"the teacher .* got 10 logits for 3 classes$"):
        evaluate(student, as_they_are, images, teacher=(teacher, as_they_are))


def test_probabilities_are_refused() -> None:
    logits, labels = random_case(12)
    with pytest.raises(LimbeckError, match="the student must return logits, got probabilities"):
        judged(logits.softmax(1), labels, batch_size=10)
    with pytest.raises(LimbeckError, match="the teacher must return logits, got probabilities"):
        judged(logits, labels, teacher=(Lookup(logits.softmax(1)), as_they_are))


def test_one_row_that_is_no_distribution_makes_them_logits() -> None:
    logits, labels = random_case(12)
    mixed = torch.cat([logits[:1], logits[1:].softmax(1)])
    assert judged(mixed, labels, batch_size=1)["examples"] == len(labels)
    assert are_probabilities(torch.tensor([[0.5, 0.5005], [1.0, 0.0]]))
    assert not are_probabilities(torch.tensor([[0.5, 0.502]]))
    assert not are_probabilities(torch.tensor([[1.1, -0.1]]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(LimbeckError, match="the student's logits must be finite"):
        judged(torch.tensor([[1.0, bad], [0.0, 1.0]]), [0, 1])


def test_an_output_that_is_no_matrix_is_refused() -> None:
    images = numbered([0, 1], 3)
    with pytest.raises(LimbeckError, match=r"must return logits \(images, classes\), got"):
        evaluate(nn.Identity(), as_they_are, images)


class Watched(nn.Module):
    """Keeps how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((len(x), self.body.training, torch.is_grad_enabled()))
        return self.body(x)


def test_evaluation_leaves_no_trace() -> None:
    torch.manual_seed(0)
    images = Images(
        torch.randint(0, 256, (9, 1, 2, 2), dtype=torch.uint8), torch.arange(9) % 3, tuple("abc")
    )
    model = Watched().train()
    model.body[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    document = evaluate(model, Preprocess((0.5,), (0.5,)), images, batch_size=4)
    assert [model.body[k].training for k in range(4)] == [True, False, True, True]
    assert torch.equal(torch.get_rng_state(), rng)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(training or grad for _, training, grad in model.calls)
    assert [rows for rows, *_ in model.calls[:3]] == [4, 4, 1]
    assert document["batch_size"] == 4
    model(torch.randn(2, 1, 2, 2)).sum().backward()
    assert model.body[3].weight.grad is not None


def test_cost_counts_parameters_operations_and_bytes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images = Images(torch.ones(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), tuple("abc"))
    document = evaluate(model, Preprocess((0.5,), (0.5,)), images)
    assert (document["parameters"], document["flops"], document["bytes"]) == (15, 24, 60)


def test_speed_is_taken_from_real_images_alone_and_in_a_batch() -> None:
    seen: list[Tensor] = []
    model = nn.Linear(2, 2)
    model.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    facts = speed(model, inputs)
    assert all(torch.equal(x, inputs[: len(x)]) for x in seen)
    assert {len(x) for x in seen} == {1, 3}
    stated = facts["batch_size"], facts["threads"], facts["device"]
    assert stated == (3, torch.get_num_threads(), "cpu")


def test_the_time_of_a_call_is_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([9.0, 9.0, 1.0, 5.0, 3.0])
    monkeypatch.setattr(speed_module, "FEWEST", 3)
    monkeypatch.setattr(speed_module, "timed", lambda model, inputs: next(times))
    assert seconds(nn.Identity(), torch.zeros(1)) == 3.0
    assert next(times, None) is None


def test_a_batch_larger_than_the_set_goes_round_its_images() -> None:
    logits, labels = random_case(13, n=3)
    assert judged(logits, labels, batch_size=8)["batch_size"] == 8


def test_the_summary_states_the_best_facts_first_and_is_aligned() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    right = Lookup(torch.cat([torch.eye(3), torch.eye(3)[2:]]) * 4), as_they_are
    text = summary(judged(logits, [0, 1, 2, 2], teacher=right, split="digits:test"))
    headline, table, remarks = text.split("\n\n")
    assert headline == (
        "top-1 75.00 % on digits:test (4 images): 75.00 % of its teacher's, "
        "with 1/1.0 of the parameters"
    )
    lines = table.splitlines()
    assert lines[0].split() == ["student", "teacher"]
    assert lines[1].split() == ["top-1", "75.00", "%", "100.00", "%"]
    assert len({len(line) for line in lines}) == 1
    assert "same answer as the teacher for 75.00 %" in remarks
    assert "hardest: c2 50.00 %, c0 100.00 %, c1 100.00 %" in remarks
    assert "None" not in text


def test_the_summary_of_a_student_alone_has_one_column() -> None:
    logits, labels = random_case(14)
    text = summary(judged(logits, labels))
    headline, table, remarks = text.split("\n\n")
    assert headline.endswith("on test (97 images)")
    assert "teacher" not in text
    assert "top-5" in table
    assert "thread" in remarks
