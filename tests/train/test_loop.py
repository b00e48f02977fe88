"""What one training does: precision, evaluation, saving, and the honest controls."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.train.jobs import (
    VIEW,
    distiller,
    equal,
    hint,
    images,
    job,
    loader,
    net,
    records,
    rich,
    saved,
    textbook,
    timeless,
    weights,
)
from torch import Tensor, nn

from limbeck import Distiller, Match, Reader, losses, truth
from limbeck.data import Augment, Loader, derive, open_folder
from limbeck.errors import LimbeckError
from limbeck.tasks.classification import Score, predictions
from limbeck.train import train

each = pytest.mark.parametrize


# ---- settings


@each("precision", ["bfloat16", "float16"])
def test_reduced_precision_trains_float32_weights(precision: str, tmp_path: Path) -> None:
    seen: set[torch.dtype] = set()
    made = distiller(rich(), net())
    made.student.head.register_forward_hook(lambda m, i, o: seen.add(o.dtype))
    before = weights(made.student)
    train(job(tmp_path, made, precision=precision, epochs=2))
    assert getattr(torch, precision) in seen
    after = weights(made.student)
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert not equal(before, after)
    assert all(line["loss"] > 0 for line in records(tmp_path, "train"))
    exact = distiller(rich(), net())
    train(job(tmp_path / "exact", exact, epochs=2))
    assert torch.allclose(after["conv.weight"], exact.student.conv.weight, atol=0.02)


def test_a_gradient_that_overflows_in_float16_skips_the_step(tmp_path: Path) -> None:
    made = distiller(1e6 * truth(), net())
    before = weights(made)
    train(job(tmp_path, made, precision="float16", max_steps=1))
    assert equal(weights(made), before)
    assert saved(tmp_path)["scaler"]["scale"] == 2.0**15


def test_channels_last_reaches_weights_and_images(tmp_path: Path) -> None:
    found: list[bool] = []
    student = net()
    view = replace(VIEW, channels_last=True)
    made = Distiller(Reader(student, inputs=view), net(6, seed=1), 1.0 * truth())
    student.conv.register_forward_pre_hook(
        lambda m, given: found.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    train(job(tmp_path, made, channels_last=True, max_steps=2))
    assert found
    assert all(found)
    assert student.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(
        value.is_contiguous() for value in load_file(tmp_path / "student.safetensors").values()
    )


@pytest.mark.slow
def test_a_compiled_student_trains_as_a_plain_one(tmp_path: Path) -> None:
    results = []
    for name, compiled in (("plain", False), ("compiled", True)):
        made = distiller(textbook() + hint(), net(norm=True))
        train(job(tmp_path / name, made, compile=compiled, valid=images(9), ema=0.9))
        results.append((weights(made), timeless(tmp_path / name)))
    (plain, _), (compiled, lines) = results
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)
    assert [line["kind"] for line in lines].count("eval") == 3
    fresh = net(norm=True)
    fresh.load_state_dict(load_file(tmp_path / "compiled/student.safetensors"), strict=True)


@each(("every", "epochs"), [(1, [1, 2, 3]), (2, [2, 3]), (5, [3])])
def test_evaluation_comes_every_k_epochs_and_at_the_end(
    every: int, epochs: list[int], tmp_path: Path
) -> None:
    train(job(tmp_path, valid=images(9), evaluate_every=every))
    found = records(tmp_path, "eval")
    assert [(line["epoch"], line["step"]) for line in found] == [(e, 4 * e) for e in epochs]
    assert {line["split"] for line in found} == {"valid"}


@each(("most", "steps"), [(1, 1), (6, 6), (100, 12)])
def test_max_steps_ends_inside_of_an_epoch(most: int, steps: int, tmp_path: Path) -> None:
    train(job(tmp_path, valid=images(9), max_steps=most, log_every=100))
    assert saved(tmp_path)["step"] == steps
    (end,) = records(tmp_path, "done")
    assert (end["step"], end["images"]) == (steps, 6 * steps)
    assert records(tmp_path, "eval")[-1]["step"] == steps
    last = records(tmp_path, "train")[-1]
    assert (last["step"], last["progress"]) == (steps, 1.0)


def test_metrics_are_what_evaluation_says(tmp_path: Path) -> None:
    valid, made = images(30, seed=3), distiller(textbook(), net())
    train(job(tmp_path, made, valid=valid))
    last = records(tmp_path, "eval")[-1]
    with torch.no_grad():
        logits = made.student.eval()(VIEW(valid.pixels)).double()
    assert last["top1"] == pytest.approx(float((logits.argmax(1) == valid.labels).double().mean()))
    assert last["nll"] == pytest.approx(float(F.cross_entropy(logits, valid.labels)), rel=1e-6)


def test_the_score_of_withheld_labels_counts_the_known(tmp_path: Path) -> None:
    valid = images(9, withheld=(0, 4))
    score = Score.of(predictions(net(), VIEW, valid, batch_size=4))
    assert score.examples == 7


def test_b140_every_part_is_logged_and_they_sum_to_the_loss(tmp_path: Path) -> None:
    train(job(tmp_path, rich()))
    lines = records(tmp_path, "train")
    for line in lines:
        assert list(line["parts"]) == ["truth", "kl", "hint[conv]"]
        assert sum(line["parts"].values()) == pytest.approx(line["loss"], rel=1e-6)
    assert lines[0]["parts"]["kl"] == 0.0
    assert lines[-1]["parts"]["kl"] > 0


def test_the_best_is_kept_beside_the_last(tmp_path: Path) -> None:
    """A rate that rises from good to absurd: the last student is worse than an earlier one."""
    made = distiller(1.0 * truth(), net(8))
    valid = images(60, seed=4)
    train(job(tmp_path, made, valid=valid, epochs=8, optimizer="AdamW", lr=4.0, warmup=1.0))
    scores = [line["top1"] for line in records(tmp_path, "eval")]
    assert max(scores) > scores[-1]
    best = net(8)
    best.load_state_dict(load_file(tmp_path / "checkpoints/best.safetensors"))
    assert Score.of(predictions(best, VIEW, valid)).top1 == max(scores)
    assert equal(load_file(tmp_path / "student.safetensors"), weights(made.student))


def test_the_average_is_evaluated_returned_and_kept(tmp_path: Path) -> None:
    valid, made = images(30, seed=3), distiller(textbook(), net(norm=True))
    shipped = train(job(tmp_path, made, valid=valid, ema=0.9))
    assert shipped is not made.student
    assert not equal(weights(shipped), weights(made.student))
    assert equal(load_file(tmp_path / "student.safetensors"), weights(shipped))
    score = Score.of(predictions(shipped, VIEW, valid))
    assert records(tmp_path, "eval")[-1]["nll"] == pytest.approx(score.nll)
    assert not any(module._forward_hooks for module in shipped.modules())


def test_b097_the_average_follows_its_closed_form(tmp_path: Path) -> None:
    """Three steps: a_3 = d^3 w_0 + (1 - d) sum d^(3-k) w_k, buffers too, counters copied."""
    decay, seen = 0.5, []
    made = distiller(1.0 * truth(), net(norm=True))
    start = weights(made.student)
    for steps in (1, 2, 3):
        again = distiller(1.0 * truth(), net(norm=True))
        settings = {"schedule": "constant", "max_steps": steps}
        train(job(tmp_path / f"plain{steps}", again, **settings))
        seen.append(weights(again.student))
    shipped = train(job(tmp_path / "average", made, ema=decay, schedule="constant", max_steps=3))
    for name, value in weights(shipped).items():
        if not value.is_floating_point():
            assert torch.equal(value, seen[-1][name])
            continue
        expected = start[name]
        for later in seen:
            expected = decay * expected + (1 - decay) * later[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


# ---- what goes wrong


class Poisoned:
    """A loss that is not a number from its n-th call on."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, s: Tensor, t: Tensor) -> Tensor:
        self.calls -= torch.is_grad_enabled()
        return (s - t).square().mean() * (1.0 if self.calls >= 0 else float("nan"))


@each("bad", [5, 6])
@each("log_every", [1, 100])
def test_a_term_that_turns_nan_stops_by_name_and_step(
    log_every: int, bad: int, tmp_path: Path
) -> None:
    """Step 5 is one that would be saved, step 6 is not."""
    poison = Match(Poisoned(bad), name="poison")
    settings = {"save_every": 2, "log_every": log_every}
    with pytest.raises(LimbeckError) as caught:
        train(job(tmp_path, 0.5 * truth() + 0.5 * poison, **settings))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"the loss must stay finite, got poison = nan at step {bad}; the la")
    state = saved(tmp_path)
    assert state["step"] == {5: 4, 6: 6}[bad]
    assert all(value.isfinite().all() for value in state["distiller"].values())
    assert records(tmp_path, "train")[-1]["step"] <= bad
    healed = 0.5 * truth() + 0.5 * Match(Poisoned(99), name="poison")
    train(job(tmp_path, healed, resume=True, **settings), resume=True)
    assert saved(tmp_path)["step"] == 12


def test_weights_that_overflow_are_never_saved(tmp_path: Path) -> None:
    """The loss of the step was finite; what its gradient did to the weights was not."""
    made = distiller(1e30 * truth(), net())
    with pytest.raises(LimbeckError, match=r"student\.conv\.weight must stay finite, but is not"):
        train(job(tmp_path, made, lr=1e20, momentum=0.0, schedule="constant", save_every=1))
    assert not (tmp_path / "checkpoints/last.pt").exists()


def test_a_batch_without_any_label_teaches_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    made = distiller(1.0 * truth(), net())
    before = weights(made.student)
    everything = images(24, withheld=range(24))
    train(job(tmp_path, made, batches=loader(everything), weight_decay=0.0, accumulate=3))
    assert equal(weights(made.student), before)
    assert {line["loss"] for line in records(tmp_path, "train")} == {0.0}


# ---- honest controls


def plain_loop(student: nn.Module, steps: int, seed: int = 0) -> None:
    """What anyone would write, with dropout drawn as a training draws it."""
    optimizer = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9)
    batches = loader()
    for step in range(steps):
        batch = list(batches.epoch(step // len(batches)))[step % len(batches)]
        torch.manual_seed(derive(seed, f"step {step} rank 0"))
        student.train()
        F.cross_entropy(student(VIEW(batch.images)), batch.target).backward()
        optimizer.step()
        optimizer.zero_grad()


class Restless(nn.Module):
    """A teacher that draws random numbers and keeps statistics where it is left in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net(6, seed=1, norm=True, drop=0.5).train()
        self.conv = self.inner.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


SETTINGS = {"momentum": 0.9, "weight_decay": 0.0, "schedule": "constant"}


@each("with_teacher", [False, True])
def test_b143_weight_0_is_the_plain_loop_bit_for_bit(with_teacher: bool, tmp_path: Path) -> None:
    """Ten steps with dropout and batch statistics; with weight 0 the teacher still answers."""
    expected = net(norm=True, drop=0.3)
    plain_loop(expected, 10)
    objective = 1.0 * truth()
    if with_teacher:
        objective = objective + 0.0 * Match(losses.kl, temperature=4) + hint(0.0)
    made = distiller(objective, net(norm=True, drop=0.3), Restless())
    train(job(tmp_path, made, max_steps=10, **SETTINGS))
    assert equal(weights(made.student), weights(expected))


@each("accumulate", [1, 3])
def test_b095_a_teacher_takes_no_random_numbers(accumulate: int, tmp_path: Path) -> None:
    """A restless teacher and none at all leave the student's dropout the same."""
    found = []
    for name in ("none", "restless"):
        student = net(drop=0.5)
        objective = 1.0 * truth() + (0.0 * Match(losses.kl) if name == "restless" else hint(0.0))
        teacher = Restless() if name == "restless" else net(6, seed=1)
        settings = {**SETTINGS, "accumulate": accumulate}
        train(job(tmp_path / name, distiller(objective, student, teacher), **settings))
        found.append(weights(student))
    assert equal(*found)


def test_b091_a_teacher_stays_at_rest_through_training_and_resuming(tmp_path: Path) -> None:
    made, modes = distiller(rich(), net(norm=True), Restless()), []
    teacher = made.sources["teacher"].model
    before = weights(teacher)
    teacher.inner.drop.register_forward_hook(lambda m, i, o: modes.append(m.training))
    train(job(tmp_path, made, valid=images(9), max_steps=6, epochs=3))
    teacher.train()
    train(job(tmp_path, made, valid=images(9), max_steps=8, resume=True), resume=True)
    assert len(modes) >= 8
    assert not any(modes)
    assert equal(weights(teacher), before)


def test_global_randomness_before_a_training_changes_nothing(tmp_path: Path) -> None:
    """Projectors are drawn from the seed, too."""
    found = []
    for seed in (1, 2):
        student = net(drop=0.5)
        made = distiller(rich(), student)
        torch.manual_seed(seed)
        train(job(tmp_path / str(seed), made))
        found.append(weights(made))
    assert equal(*found)


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        made = distiller(rich(), net())
        train(job(tmp_path / str(seed), made, seed=seed, max_steps=1))
        found.append(weights(made))
    projector = "objective.terms.2.projector.weight"
    assert not torch.equal(found[0][projector], found[1][projector])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    from PIL import Image

    data = images(18)
    for i, (pixels, label) in enumerate(zip(data.pixels, data.labels.tolist(), strict=True)):
        folder = tmp_path / "files" / data.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{i}.jpg")
    return tmp_path / "files"


@pytest.mark.slow
def test_workers_change_no_bit_of_a_training(files: Path, tmp_path: Path) -> None:
    """Files decoded here or in two processes: the same order, augmentation and student."""
    found = []
    for workers in (0, 2):
        data = open_folder(files, image_size=6, memory=0)
        augment = Augment(resized_crop=(0.3, 1.0), flip=True)
        batches = Loader(data, 6, seed=0, augment=augment, workers=workers)
        made = distiller(rich(), net(drop=0.3))
        train(job(tmp_path / str(workers), made, batches=batches, epochs=2))
        found.append((weights(made), timeless(tmp_path / str(workers))))
    assert equal(*found)
