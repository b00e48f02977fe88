"""The check before a training: it finds what is wrong, says what there is, and leaves no trace."""

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck import losses
from limbeck.check import check, memory_rule, summary, timing
from limbeck.check.memory import copies_of, own_peak
from limbeck.check.timing import PHASES, answered, run_time
from limbeck.cli import main
from limbeck.data import Images, Loader
from limbeck.distiller import Distiller
from limbeck.errors import LimbeckError
from limbeck.inputs import Preprocess
from limbeck.objective import Match, Objective, Term, truth
from limbeck.projectors import linear
from limbeck.reader import Reader
from limbeck.recipe import Recipe, check_recipe, validate
from limbeck.schedules import Linear
from limbeck.sources import Ensemble, Frozen, Recorded, Source
from limbeck.train import Job, Training
from limbeck.train.run import Run

CLASSES = 10
VIEW = Preprocess((0.0,), (20 / 255,))
KL = 0.5 * truth() + 0.5 * Match(losses.kl, temperature=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are taken over one step."""
    monkeypatch.setattr(timing, "FEWEST", 1)
    monkeypatch.setattr(timing, "SECONDS", 0.0)


def images(count: int = 60, withheld: int = 0) -> Images:
    """4x4 pixels of noise; the first pixel is 20 times the label."""
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % CLASSES
    pixels[:, 0, 0, 0] = (20 * labels).to(torch.uint8)
    known = torch.where(torch.arange(count) < count - withheld, labels, -100)
    return Images(pixels, known, tuple(f"c{k}" for k in range(CLASSES)))


def knowing(order: list[int] | None = None) -> nn.Sequential:
    """A teacher that reads the label off the first pixel: logit k is v k - k^2 / 2."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))
    k = torch.tensor(order or list(range(CLASSES)), dtype=torch.float32)
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[:, 0] = k
        model[1].bias.copy_(-(k**2) / 2)
    return model


def student(seed: int = 0, *last: nn.Module) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, CLASSES), *last)


def batch_of(job: Job) -> tuple[Tensor, Tensor]:
    first = next(job.loader.epoch(0))
    return first.images, first.target


def job_of(
    objective: Objective = KL,
    *,
    learner: nn.Module | None = None,
    teacher: nn.Module | Source | None = None,
    train: Images | None = None,
    **settings: Any,
) -> Job:
    source = teacher if isinstance(teacher, Source) else Frozen(teacher or knowing(), inputs=VIEW)
    reader = Reader(learner or student(), inputs=VIEW)
    return Job(
        Distiller(reader, {"teacher": source}, objective),
        Loader(train or images(), 20, seed=0),
        Training(batch_size=20, **settings),
        Run(Path(), writes=False),
        valid=images(50),
    )


def checked(*arguments: Any, **keywords: Any) -> dict[str, Any]:
    job = job_of(*arguments, **keywords)
    document = check(job, {"valid": images(50)})
    json.dumps(document, allow_nan=False)
    assert summary(document).startswith("no problems" if not document["problems"] else "1 problem")
    return document


def only(document: dict[str, Any]) -> str:
    """The one problem."""
    assert len(document["problems"]) == 1, document["problems"]
    return document["problems"][0]


# what there is


def test_a_good_training_has_no_problems() -> None:
    document = checked()
    assert (document["problems"], document["warnings"], document["notes"]) == ([], [], [])
    assert document["models"]["teacher"]["top1"] == 1.0
    assert document["models"]["teacher"]["parameters"] == 170
    assert document["models"]["teacher"]["bytes"] == 680
    assert document["models"]["student"]["flops"] == 2 * (16 * 6 + 6 * 10)
    assert document["without_gradient"] == []


def test_the_student_and_its_agreement_are_judged_too() -> None:
    document, same = checked(), checked(learner=knowing())
    logits = student()(VIEW(images(50).fetch(torch.arange(50))))
    right = float((logits.argmax(1) == images(50).labels).float().mean())
    assert document["models"]["student"]["top1"] == pytest.approx(right)
    assert document["models"]["teacher"]["agreement"] == pytest.approx(right)
    assert same["models"]["teacher"]["agreement"] == 1.0


def test_splits_are_counted() -> None:
    split = replace(images(25, withheld=4), skipped=(Path("broken.jpg"),))
    document = check(job_of(), {"train": split})
    assert document["data"]["train"] == {
        "images": 25,
        "labelled": 21,
        "unlabelled": 4,
        "classes": {"c0": 3, **{f"c{k}": 2 for k in range(1, 10)}},
        "shape": [1, 4, 4],
        "skipped": ["broken.jpg"],
    }


def test_projectors_and_both_shapes_are_shown() -> None:
    document = checked(truth() + Match(losses.hint, "1", "1", project=linear, name="hint"))
    row = document["terms"][1]
    assert row["student"] == {"signal": "1", "shape": [20, 6]}
    assert row["source"] == {"name": "teacher", "signal": "1", "shape": [20, 10]}
    assert row["projector"]["parameters"] == 6 * 10 + 10
    assert "projector of hint: Linear(in_features=6, out_features=10" in summary(document)


def test_a_step_and_a_run_are_timed_in_every_phase() -> None:
    document = checked(epochs=5, evaluate_every=2, optimizer="AdamW", ema=0.9, accumulate=2)
    step, run = document["step"], document["run"]
    assert math.isclose(step["ms"], sum(step[f"{phase}_ms"] for phase in PHASES))
    assert all(step[f"{phase}_ms"] > 0 for phase in PHASES)
    assert (run["steps"], run["evaluations"], run["fit_seconds"]) == (15, 3, 0.0)
    assert document["memory"]["rule"]["optimizer"] == 3 * 4 * 172
    assert document["memory"]["peak"] is None or document["memory"]["peak"] > 0


def test_each_phase_gets_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def taking(seconds: float) -> Callable[..., None]:
        def hook(*arguments: Any) -> None:
            clock[0] += seconds

        return hook

    def slow(s: Tensor, t: Tensor) -> Tensor:
        clock[0] += 3.0
        return losses.kl(s, t)

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    learner, teacher = student(), knowing()
    learner.register_forward_hook(taking(10.0))
    teacher.register_forward_hook(taking(100.0))
    monkeypatch.setattr(torch.optim.SGD, "zero_grad", taking(0.5))
    step = checked(Match(slow), learner=learner, teacher=teacher)["step"]
    spent = {phase: step[f"{phase}_ms"] for phase in PHASES}
    expected = {"teacher": 1e5, "student": 1e4, "loss": 3e3, "optimizer": 500.0}
    assert spent == {"data": 0.0, "backward": 0.0, **expected}
    assert step["images_per_second"] == pytest.approx(20 / 113.5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_and_compiling_are_rehearsed(precision: str) -> None:
    document = checked(precision=precision, compile=True)
    assert document["problems"] == []
    assert document["notes"] == ["times are those of the student before it is compiled"]


def test_a_recorded_teacher_is_asked_until_its_record_is_full() -> None:
    source = Recorded(Frozen(knowing(), inputs=VIEW), samples=60, views=2)
    job = job_of(teacher=source)
    laps = {**dict.fromkeys(PHASES, 1.0), "teacher": 100.0}
    assert [answered(job, source, steps) for steps in (4, 6, 30)] == [4, 6, 6]
    assert run_time(job, 30, laps, evaluation=2.0) == {
        "steps": 30,
        "evaluations": 10,
        "fit_seconds": 0.0,
        "seconds": pytest.approx((30 * 5 + 6 * 100) / 1000 + 10 * 2.0),
    }
    document = check(job, {})
    assert document["memory"]["record"] == 4 * 2 * 60 * CLASSES
    assert not source.known.any()
    assert "recorded answers: 4.8 kB" in summary(document)


def test_several_teachers_are_weighed_and_judged_together() -> None:
    both = [Frozen(knowing(), inputs=VIEW), Frozen(knowing(), inputs=VIEW)]
    document = checked(teacher=Ensemble(both, mean="logits"))
    assert document["models"]["teacher"]["parameters"] == 2 * 170
    assert document["models"]["teacher"]["top1"] == 1.0


def test_a_student_may_have_no_teacher() -> None:
    job = replace(job_of(), distiller=Distiller(Reader(student(), inputs=VIEW), {}, truth()))
    document = check(job, {})
    assert document["problems"] == []
    assert list(document["models"]) == ["student"]
    assert document["step"]["teacher_ms"] == 0.0


def test_without_labelled_validation_images_nothing_is_judged() -> None:
    document = check(replace(job_of(), valid=images(50, withheld=50)), {})
    assert document["problems"] == []
    assert document["notes"] == ["there are no labelled validation images: no model was judged"]
    assert "top1" not in document["models"]["teacher"]


def test_the_error_of_a_teacher_in_bfloat16_is_measured() -> None:
    torch.manual_seed(1)
    whole = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))
    half = copy.deepcopy(whole).to(torch.bfloat16)
    x = VIEW(images(50).fetch(torch.arange(50)))
    with torch.no_grad():
        exact = whole(x)
        error = (half(x.to(torch.bfloat16)).float() - exact).abs().max() / exact.std()
    document = check(job_of(teacher=half), {}, exact=Frozen(whole, inputs=VIEW))
    assert document["models"]["teacher"]["logit_error"] == pytest.approx(float(error), rel=1e-5)
    assert document["models"]["teacher"]["bytes"] == 2 * 170
    assert document["memory"]["rule"]["teacher"] == 2 * 170
    assert "largest logit error of the teacher: " in summary(document)


# terms


def test_b140_parts_sum_to_the_loss_and_show_who_pulls() -> None:
    objective = 0.05 * truth() + 0.95 * Match(losses.kl, temperature=6)
    job = job_of(objective)
    document = check(job, {})
    rows = {row["name"]: row for row in document["terms"]}
    x, target = batch_of(job)
    net, guide = student(), knowing()
    own, theirs = net(VIEW(x)), guide(VIEW(x)).detach()
    log_q, log_p = (z.double().div(6).log_softmax(-1) for z in (own, theirs))
    soft = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    hard = nn.functional.cross_entropy(own, target)
    assert rows["kl"]["value"] == pytest.approx(34.2 * float(soft.detach()), rel=1e-5)
    assert rows["kl"]["unweighted"] == pytest.approx(36 * float(soft.detach()), rel=1e-5)
    assert rows["truth"]["value"] == pytest.approx(0.05 * float(hard.detach()), rel=1e-5)
    assert [rows[name]["weight"] for name in ("truth", "kl")] == [0.05, 0.95]
    assert abs(sum(row["value"] for row in rows.values()) - document["loss"]) < 1e-6
    for name, value in (("kl", 34.2 * soft), ("truth", 0.05 * hard)):
        pull = torch.autograd.grad(value, list(net.parameters()), retain_graph=True)
        expected = math.sqrt(sum(float(g.double().square().sum()) for g in pull))
        assert rows[name]["gradient_norm"] == pytest.approx(expected, rel=1e-4)


def test_b140_a_term_that_drowns_another_is_a_warning() -> None:
    document = checked(1e-4 * truth() + Match(losses.kl, temperature=2))
    assert document["problems"] == []
    (line,) = document["warnings"]
    assert line.startswith("kl pulls at the student ")
    assert "times as hard as truth" in line
    assert checked(0.1 * truth() + Match(losses.kl, temperature=2))["warnings"] == []


def test_a_term_without_weight_is_a_problem() -> None:
    line = only(checked(truth() + 0.0 * Match(losses.kl)))
    assert line.startswith("kl must not be zero, got 0 with weight 0; ")


def test_a_weight_that_begins_or_ends_at_zero_is_none() -> None:
    for ramp in (Linear(0.0, 1.0), Linear(1.0, 0.0, until=0.2)):
        assert checked(truth() + ramp * Match(losses.kl))["problems"] == []
    assert "kl must not be zero" in only(checked(truth() + Linear(0.0, 0.0) * Match(losses.kl)))


def test_a_term_that_cannot_reach_the_student_is_a_problem() -> None:
    learner = student()
    learner[1].requires_grad_(False)
    hint = Match(losses.hint, "1", "1", project=linear, name="hint")
    line = only(checked(truth() + hint, learner=learner))
    assert line == "hint must have a gradient at the student, got none; match a layer that trains"


def test_a_training_without_any_gradient_is_not_timed() -> None:
    learner = student()
    learner[1].requires_grad_(False)
    document = checked(Match(losses.hint, "1", "1", project=linear), learner=learner)
    assert "must have a gradient" in only(document)
    assert (document["step"], document["run"]) == (None, None)
    assert document["warnings"] == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_term_that_is_not_finite_is_a_problem(bad: float) -> None:
    broken = Term(lambda x: x.square().mean() * bad, given={"x": "student:output"}, name="broken")
    document = checked(truth() + broken)
    assert only(document).startswith(f"broken must be finite, got {bad}; ")
    assert (document["terms"][1]["value"], document["loss"]) == (None, None)


def test_a_finite_term_with_a_gradient_that_is_not_is_a_problem() -> None:
    root = Term(lambda x: (x - x).sum().sqrt() + 1, given={"x": "student:output"}, name="root")
    assert only(checked(truth() + root)).startswith("root must be finite, got its gradient; ")


def test_b136_b058_a_feature_alone_trains_and_names_what_it_leaves_out() -> None:
    document = checked(Match(losses.hint, "1", "1", project=linear, name="hint"))
    assert document["problems"] == []
    assert [row["name"] for row in document["terms"]] == ["hint"]
    assert document["without_gradient"] == ["3.weight", "3.bias"]
    (line,) = document["warnings"]
    assert line.startswith("2 of the student's 4 parameters get no gradient (3.weight, 3.bias): ")


@pytest.mark.parametrize(
    "objective",
    [
        Match(losses.kl),
        Match(losses.rkd_distance, "1"),
        truth() + Match(losses.kl) + Match(losses.hint, "1", project=linear),
    ],
)
def test_b136_each_kind_of_term_alone_and_together(objective: Objective) -> None:
    document = checked(copy.deepcopy(objective))
    assert document["problems"] == []
    assert [row["name"] for row in document["terms"]] == objective.parts()


def test_a_batch_is_sought_that_has_a_label() -> None:
    rare = images(600, withheld=598)
    first = job_of(train=rare)
    assert not bool((batch_of(first)[1] >= 0).any())
    document = check(first, {})
    assert document["problems"] == document["warnings"] == []
    assert document["terms"][0]["value"] > 0


def test_a_term_that_no_label_feeds_is_a_warning() -> None:
    document = checked(train=images(60, withheld=60))
    assert document["problems"] == []
    assert document["warnings"][0].startswith("truth had nothing to average over in 32 batches")


# teachers


def test_b098_a_teacher_that_knows_nothing_is_a_problem_with_both_figures() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))
    document = checked(teacher=teacher)
    top1 = document["models"]["teacher"]["top1"]
    assert only(document) == (
        "the teacher's top-1 must be at least 20.00 % (twice chance), "
        f"got {100 * top1:.2f} % on 50 validation images; load trained weights"
    )


def test_b098_a_zeroed_teacher_is_a_problem() -> None:
    teacher = knowing()
    for parameter in teacher.parameters():
        nn.init.zeros_(parameter)
    document = check(job_of(teacher=teacher), {})
    zero, chance = document["problems"]
    assert zero.startswith("the teacher's weights must be trained ones, but all 1 weight tensors")
    assert chance.startswith("the teacher's top-1 must be at least 20.00 %")
    assert summary(document).startswith("2 problems\n\nproblem: the teacher's weights")


def test_a_teacher_with_other_class_names_is_told_so() -> None:
    line = only(checked(teacher=knowing([*range(1, CLASSES), 0])))
    assert "got 0.00 % on 50 validation images; with its classes named otherwise" in line
    assert "100.00 %" in line


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_probabilities_are_no_logits(who: str) -> None:
    model = nn.Sequential(*knowing(), nn.Softmax(-1))
    role = {"teacher": {"teacher": model}, "student": {"learner": student(0, nn.Softmax(-1))}}[who]
    assert only(checked(**role)) == (
        f"the {who} must return logits, got probabilities (non-negative, and every row sums to 1); "
        "remove its last softmax"
    )


def test_a_teacher_of_other_classes_is_a_problem() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, 7))
    line = only(checked(Match(losses.rkd_distance, "1") + truth(), teacher=teacher))
    assert line.startswith("the teacher must answer with a logit for each of the data's 10 classes")
    assert "(50, 7)" in line


def test_a_teacher_that_is_not_finite_is_a_problem() -> None:
    teacher = knowing()
    nn.init.constant_(teacher[1].bias, math.nan)
    document = check(job_of(truth() + Match(losses.hint, "0"), teacher=teacher), {})
    assert any("must answer with finite logits" in line for line in document["problems"])
    assert any("1.bias is not finite" in line for line in document["problems"])


# memory


def test_b134_the_rule_for_memory() -> None:
    both = memory_rule(3e9, 14e9, 2)
    assert both == {
        "weights": 6_000_000_000,
        "gradients": 6_000_000_000,
        "optimizer": 12_000_000_000,
        "teacher": 28_000_000_000,
        "total": 52_000_000_000,
    }
    assert memory_rule(3e9, bytes_per=2)["total"] == 24_000_000_000


@pytest.mark.parametrize(
    "settings",
    [
        Training(optimizer="SGD"),
        Training(optimizer="SGD", momentum=0.0),
        Training(optimizer="Adam"),
        Training(optimizer="AdamW", momentum=0.0),
        Training(optimizer="RMSprop"),
        Training(optimizer="RMSprop", momentum=0.0),
    ],
)
def test_b134_the_optimizer_keeps_what_the_rule_says(settings: Training) -> None:
    from limbeck.train.optim import optimizer_for

    net = nn.Linear(30, 20)
    optimizer = optimizer_for(net, nn.Module(), settings)
    net(torch.ones(2, 30)).sum().backward()
    optimizer.step()
    state = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    kept = sum(value.numel() for value in state if value.numel() > 1)
    assert kept == copies_of(settings) * sum(p.numel() for p in net.parameters())


# no trace


def noisy(seed: int) -> nn.Sequential:
    """A model with batch statistics, dropout, and one part in another mode."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU())
    model = nn.Sequential(body, nn.Dropout(0.5), nn.Linear(8, CLASSES))
    model[1].eval()
    return model


def trace(*models: nn.Module) -> list[Any]:
    """Everything about models that a check could leave changed."""
    return [
        [
            {name: value.clone() for name, value in model.state_dict().items()},
            [part.training for part in model.modules()],
            [p.grad for p in model.parameters()],
            [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()],
            [name for name, _ in model.named_modules()],
        ]
        for model in models
    ]


def assert_equal(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert_equal(value, after[key])
    elif isinstance(before, list):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert_equal(one, other)
    else:
        assert before == after


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learner, teacher = noisy(0), noisy(1)
    hint = Match(losses.hint, "0", project=linear, name="hint")
    objective = 0.5 * truth() + Linear(0.0, 1.0) * Match(losses.kl) + hint
    source = Recorded(Frozen(teacher, inputs=VIEW), samples=60, views=2)
    job = job_of(objective, learner=learner, teacher=source)
    before = trace(learner, teacher, job.distiller.objective)
    state = torch.get_rng_state()
    document = check(job, {"train": images()})
    assert_equal(before, trace(learner, teacher, job.distiller.objective))
    assert torch.equal(torch.get_rng_state(), state)
    assert job.distiller.sources["teacher"] is source
    assert not source.known.any()
    assert not job.distiller.prepared
    assert list(tmp_path.iterdir()) == []
    again = check(job, {"train": images()})
    assert again["terms"] == document["terms"]


def test_nothing_is_left_behind_after_an_error() -> None:
    learner, teacher = noisy(0), noisy(1)
    job = job_of(truth() + Match(losses.hint, "0", "2"), learner=learner, teacher=teacher)
    before, state = trace(learner, teacher), torch.get_rng_state()
    with pytest.raises(LimbeckError, match=r"hint\[0\]: student '0' \(20, 8\) against teacher '2'"):
        check(job, {})
    assert_equal(before, trace(learner, teacher))
    assert torch.equal(torch.get_rng_state(), state)


# recipes

TINY: dict[str, Any] = {
    "data": {"train": "digits:train", "valid": "digits:valid", "labels": 40},
    "student": {"model": "limbeck.zoo:mlp", "options": {"hidden": 4}, "mean": [0.1], "std": [0.3]},
    "teacher": {"model": "limbeck.zoo:mlp", "options": {"hidden": 8}, "mean": [0.1], "std": [0.3]},
    "objective": [{"loss": "truth"}, {"loss": "kl", "temperature": 2}],
    "train": {"max_steps": 3, "threads": 1},
}
FIT: dict[str, Any] = {"max_steps": 5, "optimizer": "AdamW", "threads": 1}


def soft(classes: int) -> nn.Sequential:
    """A network that ends in a softmax."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes), nn.Softmax(-1))


def recipe(**changes: Any) -> Recipe:
    """The tiny recipe; `teacher__fit=...` sets one key of a block."""
    raw = copy.deepcopy(TINY)
    for key, value in changes.items():
        block, _, name = key.partition("__")
        if name:
            raw[block][name] = value
        else:
            raw[block] = value
    return validate(raw)


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[float], str]:
    """A checkpoint of the tiny teacher, its weights scaled."""

    def write(scale: float) -> str:
        from limbeck.zoo import mlp

        torch.manual_seed(3)
        path = tmp_path / "teacher.safetensors"
        save_file({k: scale * v for k, v in mlp(10, hidden=8).state_dict().items()}, path)
        return str(path)

    return write


def test_a_teacher_that_is_fitted_first_is_not_judged() -> None:
    document = check_recipe(recipe(teacher__fit=FIT))
    assert document["problems"] == document["warnings"] == []
    assert document["notes"][0].startswith("the teacher will be fitted first: ")
    assert document["models"]["teacher"]["weights"] == "fitted"
    assert "top1" not in document["models"]["teacher"]
    assert document["data"]["train"]["labelled"] == 40
    fit = document["fit"]
    assert fit["models"]["student"]["parameters"] == document["models"]["teacher"]["parameters"]
    assert [row["name"] for row in fit["terms"]] == ["truth"]
    assert fit["run"]["steps"] == 5
    assert document["run"]["fit_seconds"] == fit["run"]["seconds"]
    assert "of them for the teacher" in summary(document)


def test_what_is_wrong_with_the_fit_is_said_of_the_fit() -> None:
    teacher = {"model": f"{__name__}:soft", "mean": [0.1], "std": [0.3], "fit": FIT}
    line = only(check_recipe(recipe(teacher=teacher)))
    assert line.startswith("teacher.fit: the student must return logits, got probabilities")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_from_a_checkpoint_are_named(
    weights: Callable[[float], str], precision: str
) -> None:
    document = check_recipe(recipe(teacher__checkpoint=weights(1.0), teacher__precision=precision))
    model = document["models"]["teacher"]
    assert model["weights"] == "checkpoint"
    assert ("logit_error" in model) == (precision == "bfloat16")
    assert 0 < model.get("logit_error", 0.01) < 0.1


def test_b098_a_checkpoint_of_zeros_is_refused(weights: Callable[[float], str]) -> None:
    with pytest.raises(LimbeckError, match="weight tensors are zero"):
        check_recipe(recipe(teacher__checkpoint=weights(0.0)))


def test_b098_fresh_weights_are_named() -> None:
    document = check_recipe(recipe())
    assert document["models"]["teacher"]["weights"] == "random"
    assert any("has fresh weights" in line for line in document["warnings"])


def test_a_student_larger_than_its_teacher_is_a_warning() -> None:
    larger = {**TINY["student"], "options": {"hidden": 9}}
    document = check_recipe(recipe(student=larger, teacher__fit=FIT))
    assert document["problems"] == []
    (line,) = [line for line in document["warnings"] if "swapped" in line]
    assert "7,165" in line
    assert "6,370" in line


def test_a_recipe_leaves_random_numbers_threads_and_folders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    check_recipe(recipe(teacher__fit=FIT, train={"max_steps": 3, "threads": threads + 1}))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("weight", "code"), [(0.5, 0), (0.0, 3)])
def test_the_command_exits_3_where_there_is_a_problem(
    tmp_path: Path, weight: float, code: int
) -> None:
    path = tmp_path / "recipe.yaml"
    fitted = copy.deepcopy(TINY)
    fitted["teacher"]["fit"] = FIT
    path.write_text(json.dumps(fitted))
    arguments = ["check", str(path), f"objective.1.weight={weight}", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code
    assert len(json.loads(result.stdout)["problems"]) == (code == 3)


def test_the_check_of_a_recipe_draws_who_teaches_whom(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({**TINY, "sources": {"spare": TINY["teacher"]}}))
    printed = CliRunner().invoke(main, ["check", str(path)]).stdout
    drawn = (
        "labels (40 kept) --- truth ---> student (mlp)\n"
        "teacher (mlp) ------ kl T=2 --> student\n"
        "spare (mlp): teaches nobody"
    )
    assert f"\n\n{drawn}\n\n" in printed
    graph = json.loads(CliRunner().invoke(main, ["check", str(path), "--json"]).stdout)["graph"]
    assert [node["name"] for node in graph["nodes"]] == ["student", "labels", "teacher", "spare"]
    assert graph["arrows"][1] == {
        "start": "teacher",
        "end": "student",
        "terms": ["kl T=2"],
        "teaches": True,
    }


@pytest.mark.skipif(sys.platform == "win32", reason="a process's peak is unknown on Windows")
def test_a_process_does_not_count_what_its_parent_held() -> None:
    held = torch.ones(2**28)
    code = "from limbeck.check.memory import own_peak; print(own_peak())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    here = own_peak()
    assert here is not None
    assert here >= 4 * len(held)
    assert int(child.stdout) < here - 2 * len(held)
