"""A group of students in the training loop: what is logged, kept, averaged and resumed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.jobs import (
    VIEW,
    Signalled,
    equal,
    images,
    job,
    loader,
    net,
    records,
    saved,
    timeless,
    weights,
)

from limbeck import Match, Mutual, Reader, losses, truth
from limbeck.data import Augment, Mix
from limbeck.errors import LimbeckError
from limbeck.projectors import conv
from limbeck.schedules import Linear
from limbeck.schemes import okddip
from limbeck.tasks.classification import Score
from limbeck.tasks.task import predictions
from limbeck.train import Job, Training, train
from limbeck.train.run import Run

each = pytest.mark.parametrize
KL = Match(losses.kl, source="peers", temperature=2)
Make = Callable[[], Mutual]


def mutual(objective: Any = None, teach: Any = "each", **options: Any) -> Mutual:
    """Two small networks of different width that see images as they come, or each its own."""
    nets = {"a": net(4, seed=0, **options), "b": net(6, seed=1, **options)}
    readers = {n: Reader(m, inputs=replace(VIEW, view=k)) for k, (n, m) in enumerate(nets.items())}
    return Mutual(readers, objective or truth() + KL, teach=teach, temperature=2)


def rich() -> Mutual:
    """Dropout and batch statistics, projectors, a weight and a temperature that move."""
    soft = Match(losses.kl, source="peers", temperature=Linear(4, 2))
    hint = Match(losses.hint, "conv", source="peers", project=conv)
    return mutual(0.5 * truth() + Linear(0, 1, until=0.5) * soft + 0.1 * hint, norm=True, drop=0.3)


def general() -> Mutual:
    return mutual(teach="general", norm=True)


def attended() -> Mutual:
    """Peers that weigh one another by an attention which trains, and a leader."""
    named = {"maps": "conv", "pooled": lambda signals: signals["maps"].mean((2, 3))}
    readers = {
        name: Reader(net(4, seed=k), inputs=replace(VIEW, view=k), names=named)
        for k, name in enumerate("abc")
    }
    torch.manual_seed(0)
    return okddip(readers, leader="c", features="pooled", width=4)


def group(folder: Path, made: Mutual, batches: Any = None, **settings: Any) -> Job:
    """Four steps an epoch, three epochs."""
    resume, valid = settings.pop("resume", False), settings.pop("valid", images(9, seed=5))
    given = {"epochs": 3, "batch_size": 6, "log_every": 1, "lr": 0.05, **settings}
    run = Run(folder, resume=resume)
    return Job(made, batches or loader(), Training(**given), run, valid=valid)


# ---- what a run leaves


def test_every_part_is_logged_and_every_student_judged_by_name(tmp_path: Path) -> None:
    made, valid = mutual(), images(30, seed=5)
    shipped = train(group(tmp_path, made, valid=valid))
    assert shipped is made.students["a"]
    lines = records(tmp_path, "train")
    assert [line["step"] for line in lines] == list(range(1, 13))
    for line in lines:
        assert list(line["parts"]) == ["a/truth", "a/kl", "b/truth", "b/kl"]
        assert sum(line["parts"].values()) == pytest.approx(line["loss"], rel=1e-5)
    judged = records(tmp_path, "eval")
    assert [(line["epoch"], line["student"]) for line in judged] == [
        (epoch, name) for epoch in (1, 2, 3) for name in "ab"
    ]
    for line in judged[-2:]:
        score = Score.of(predictions(made.students[line["student"]], VIEW, valid))
        assert (line["top1"], line["nll"]) == (score.top1, score.nll)


@each("decay", [None, 0.8])
def test_every_file_is_a_plain_student(decay: float | None, tmp_path: Path) -> None:
    """The first is the one that ships; with averages all files hold those."""
    made = rich()
    shipped = train(group(tmp_path, made, ema=decay))
    for name, width in (("a", 4), ("b", 6)):
        found = load_file(tmp_path / "students" / f"{name}.safetensors")
        net(width, seed=7, norm=True, drop=0.3).load_state_dict(found, strict=True)
        assert equal(found, weights(made.students[name])) == (decay is None)
        if decay:
            assert equal(found, saved(tmp_path)["average"][name])
    first = load_file(tmp_path / "students/a.safetensors")
    assert equal(first, load_file(tmp_path / "student.safetensors"))
    assert equal(first, weights(shipped))
    assert load_file(tmp_path / "checkpoints/best.safetensors").keys() == first.keys()


def test_the_best_is_the_first_students_best(tmp_path: Path) -> None:
    train(group(tmp_path, mutual(), lr=0.5, epochs=5, valid=images(30, seed=5)))
    scores = {n: [r["top1"] for r in records(tmp_path, "eval") if r["student"] == n] for n in "ab"}
    assert saved(tmp_path)["best"] == max(scores["a"])


def test_a_run_that_starts_again_leaves_no_student_of_before(tmp_path: Path) -> None:
    train(group(tmp_path, mutual(), epochs=1))
    Run(tmp_path, overwrite=True).close()
    assert not (tmp_path / "students").exists()


@each("clip", [None, 0.3])
def test_one_optimizer_takes_the_steps_of_one_for_each(clip: float | None, tmp_path: Path) -> None:
    """By hand, with an optimizer and a norm of its own for each student, in the loop's order."""
    made, batches = mutual(), loader()
    settings = {"schedule": "constant", "weight_decay": 0.0, "epochs": 2, "clip": clip}
    train(group(tmp_path, made, batches, **settings))
    by_hand, clipped = mutual(), 0
    optimizers = [
        torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
        for student in by_hand.students.values()
    ]
    for epoch in range(2):
        for batch in batches.epoch(epoch):
            by_hand(batch.images, target=batch.target).loss.backward()
            for student in by_hand.students.values():
                norm = torch.nn.utils.clip_grad_norm_(student.parameters(), clip or math.inf)
                clipped += int(norm > (clip or math.inf))
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert (clipped > 0) == (clip is not None)
    for name, student in by_hand.students.items():
        for key, value in weights(student).items():
            torch.testing.assert_close(weights(made.students[name])[key], value)


# ---- stopping, pieces, compiling


SETTINGS: dict[str, tuple[Make, dict[str, Any]]] = {
    "everything": (rich, {"ema": 0.8, "clip": 0.5, "accumulate": 2}),
    "bfloat16": (rich, {"precision": "bfloat16", "optimizer": "AdamW", "channels_last": True}),
    "general": (general, {"optimizer": "AdamW"}),
    "attention": (attended, {"optimizer": "Adam"}),
}


@each("apart", [False, True])
@each("name", SETTINGS)
def test_resuming_equals_never_stopping(name: str, apart: bool, tmp_path: Path) -> None:
    """Stopped inside of an epoch, and built anew from other global randomness."""
    make, settings = SETTINGS[name]
    own = len(make().names) if apart else 1
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    expected = train(group(straight, make(), loader(students=own), **settings))
    with pytest.raises(SystemExit):
        train(group(broken, make(), Signalled(loader(students=own), 6), **settings))
    assert saved(broken)["step"] == 7
    torch.manual_seed(12)
    again = group(broken, make(), loader(students=own), resume=True, **settings)
    found = train(again, resume=True)
    assert equal(weights(found), weights(expected))
    assert equal(saved(broken), saved(straight))
    assert timeless(broken) == timeless(straight)
    for student in make().names:
        files = [folder / "students" / f"{student}.safetensors" for folder in (straight, broken)]
        assert equal(*map(load_file, files))


@each("own", [1, 2])
def test_pieces_equal_the_undivided_batch(own: int, tmp_path: Path) -> None:
    """Withheld labels are unevenly spread; each student sees one view, or its own."""
    found = []
    for accumulate in (1, 4):
        batches = loader(images(48, (0, 1, 2, 5, 9, 14)), 12, students=own)
        made = mutual().double()
        for reader in made.readers.values():
            shown = reader.inputs
            reader.inputs = lambda pixels, shown=shown: shown(pixels).double()
        settings = {"batch_size": 12, "epochs": 2, "accumulate": accumulate, "valid": None}
        train(group(tmp_path / str(accumulate), made, batches, **settings))
        found.append(weights(made))
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=0, atol=1e-10)


def test_compiled_students_train_as_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is compiled by itself, after the projectors have their sizes."""
    calls: list[torch.nn.Module] = []

    def compiled(module: torch.nn.Module) -> None:
        calls.append(module)
        module._compiled_call_impl = module._call_impl

    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    made, plain = rich(), rich()
    train(group(tmp_path / "compiled", made, compile=True))
    train(group(tmp_path / "plain", plain))
    assert calls == list(made.students.values())
    assert equal(weights(made), weights(plain))


@pytest.mark.slow
def test_compiled_students_come_as_close_as_a_compiler_does(tmp_path: Path) -> None:
    made, plain = rich(), rich()
    for student in (*made.students.values(), *plain.students.values()):
        student.drop.p = 0.0
    train(group(tmp_path / "compiled", made, compile=True, ema=0.9))
    train(group(tmp_path / "plain", plain, ema=0.9))
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(made)[name], value, rtol=1e-4, atol=1e-5)


# ---- weighing, and views apart


def test_students_are_weighed_after_each_epoch_by_the_validation_images(tmp_path: Path) -> None:
    made, valid = general(), images(30, seed=5)
    train(group(tmp_path, made, valid=valid))
    found = made.state_dict()["teaching.weights"].clone()
    assert float(found.sum()) == pytest.approx(1)
    assert found.tolist() != [0.5, 0.5]
    made.weigh([(valid.fetch(torch.arange(30)), valid.labels)])
    assert made.state_dict()["teaching.weights"].tolist() == pytest.approx(found.tolist())


def test_students_cannot_be_weighed_by_nothing(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="students by validation images; name some"):
        train(group(tmp_path, general(), valid=None))


@each("mix", [None, Mix(mixup=0.4, cutmix=1.0)])
def test_each_student_has_a_view_of_its_own(mix: Mix | None) -> None:
    """The first sees what it would see alone, whatever the others see; labels are shared."""
    augment = Augment(crop=2, flip=True)
    one, two, three = (
        next(loader(augment=augment, mix=mix, students=k).epoch(1)) for k in (1, 2, 3)
    )
    assert two.images.shape == (6, 2, 3, 6, 6)
    assert torch.equal(two.images[:, 0], one.images)
    assert torch.equal(three.images[:, :2], two.images)
    assert not torch.equal(two.images[:, 1], one.images)
    assert torch.equal(three.target, one.target)
    assert torch.equal(VIEW(two.images), VIEW(one.images))
    assert torch.equal(replace(VIEW, view=1)(two.images), VIEW(two.images[:, 1]))


def test_mixed_views_have_one_partner_and_one_weight() -> None:
    """Where nothing else varies, mixing alone leaves all views equal."""
    still = Augment(crop=0, flip=False, randaugment=None, resized_crop=None, padding="reflect")
    batch = next(loader(augment=still, mix=Mix(mixup=0.4), students=2).epoch(0))
    assert torch.equal(batch.images[:, 0], batch.images[:, 1])


def test_views_apart_need_something_that_varies() -> None:
    with pytest.raises(LimbeckError, match="students need an augmentation"):
        loader(augment=None, students=2)


def test_two_ranks_have_the_rows_of_one_process() -> None:
    whole = next(loader(students=2).epoch(0))
    halves = [next(loader(students=2, rank=k, world=2).epoch(0)) for k in (0, 1)]
    assert torch.equal(torch.cat([half.images for half in halves]), whole.images)


def test_a_student_alone_is_logged_and_kept_as_ever(tmp_path: Path) -> None:
    train(job(tmp_path, valid=images(9), epochs=1))
    assert not (tmp_path / "students").exists()
    (line,) = records(tmp_path, "eval")
    assert "student" not in line
    assert math.isfinite(line["nll"])
