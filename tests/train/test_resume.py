"""Stopping and going on leaves the same bits as never stopping; public reports by their ids."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.jobs import (
    Signalled,
    distiller,
    equal,
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

from limbeck import Balance, Distiller, Match, Recorded, losses, methods, truth
from limbeck.errors import LimbeckError
from limbeck.projectors import conv
from limbeck.tasks.task import predictions
from limbeck.train import train

each = pytest.mark.parametrize
Make = Callable[[], Distiller]


def plain() -> Distiller:
    return distiller(textbook())


def everything() -> Distiller:
    """Dropout and batch statistics in the student, a projector, moving weight and temperature."""
    return distiller(rich(), net(norm=True, drop=0.3))


def balanced() -> Distiller:
    """Another first batch or another teacher would find other factors."""
    hint = Balance(0.5) * Match(losses.hint, "conv", project=conv)
    soft = Balance(0.2) * Match(losses.kl, temperature=4)
    return distiller(truth() + soft + hint, net(norm=True, drop=0.3))


def recorded() -> Distiller:
    made = distiller(rich(), net(drop=0.3))
    teacher = Recorded(made.sources["teacher"], samples=24, views=2)
    return Distiller(made.reader, {"teacher": teacher}, rich())


def remembering() -> Distiller:
    """A memory of all samples, a temperature that learns by a schedule, variances that learn."""
    memory = methods.crd(24, "conv", negatives=5, width=4)
    learned = methods.ctkd(truth_weight=0) + methods.vid("conv", truth_weight=0)
    return distiller(memory + learned, net(norm=True, drop=0.3))


SETTINGS: dict[str, tuple[Make, dict[str, Any]]] = {
    "SGD": (plain, {"momentum": 0.9, "nesterov": True}),
    "AdamW": (plain, {"optimizer": "AdamW", "warmup": 0.3}),
    "Adam": (plain, {"optimizer": "Adam"}),
    "RMSprop": (plain, {"optimizer": "RMSprop"}),
    "everything": (everything, {"ema": 0.8, "clip": 0.5, "accumulate": 2}),
    "everything in bfloat16": (everything, {"precision": "bfloat16", "optimizer": "AdamW"}),
    "everything in float16": (everything, {"precision": "float16"}),
    "channels last": (everything, {"channels_last": True}),
    "balanced": (balanced, {"optimizer": "AdamW", "ema": 0.8}),
    "remembering": (remembering, {"accumulate": 2, "optimizer": "AdamW"}),
    "recorded": (recorded, {"ema": 0.8, "optimizer": "AdamW"}),
    "steps": (plain, {"schedule": "step", "milestones": [0.5, 0.75], "max_steps": 11}),
}


STOPS = [*((name, 7) for name in SETTINGS), ("everything", 2), ("everything", 4)]


@each(("name", "stop"), STOPS)
def test_b083_resuming_equals_never_stopping(name: str, stop: int, tmp_path: Path) -> None:
    """Stopped inside of an epoch and at its end, and built anew from other global randomness."""
    make, settings = SETTINGS[name]
    views = {"views": 2} if name == "recorded" else {}
    valid = images(9, seed=5)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    torch.manual_seed(11)
    expected = train(job(straight, make(), batches=loader(**views), valid=valid, **settings))

    cut = Signalled(loader(**views), stop - 1)
    with pytest.raises(SystemExit) as left:
        train(job(broken, make(), batches=cut, valid=valid, **settings))
    assert left.value.code == 143
    assert saved(broken)["step"] == stop
    torch.manual_seed(12)
    again = job(broken, make(), batches=loader(**views), valid=valid, resume=True, **settings)
    found = train(again, resume=True)

    assert equal(weights(found), weights(expected))
    assert equal(saved(broken), saved(straight))
    assert timeless(broken) == timeless(straight)
    files = [folder / "student.safetensors" for folder in (straight, broken)]
    assert equal(*map(load_file, files))
    assert equal(load_file(files[0]), weights(expected))


def test_the_best_of_before_stays_the_best(tmp_path: Path) -> None:
    """A rate that rises to absurdity: what comes after the stop is worse than what was."""
    settings = {"epochs": 8, "optimizer": "AdamW", "lr": 4.0, "warmup": 1.0}
    valid = images(60, seed=4)

    def made() -> Distiller:
        return distiller(1.0 * truth(), net(8))

    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(job(straight, made(), valid=valid, **settings))
    scores = [line["top1"] for line in records(straight, "eval")]
    stop = 4 * (scores.index(max(scores)) + 1) + 1
    with pytest.raises(SystemExit):
        train(job(broken, made(), batches=Signalled(loader(), stop), valid=valid, **settings))
    train(job(broken, made(), valid=valid, resume=True, **settings), resume=True)
    files = [folder / "checkpoints/best.safetensors" for folder in (straight, broken)]
    assert equal(*map(load_file, files))
    assert saved(broken)["best"] == max(scores) > scores[-1]


def test_b086_projectors_and_their_moments_go_on(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(job(tmp_path, everything(), batches=Signalled(loader(), 4), optimizer="Adam"))
    state = saved(tmp_path)
    projector = [name for name in state["distiller"] if "projector" in name]
    assert projector == [f"objective.terms.2.projector.{end}" for end in ("weight", "bias")]
    assert len(state["optimizer"]["state"]) == len(list(everything().parameters())) + 2
    assert {float(moments["step"]) for moments in state["optimizer"]["state"].values()} == {5.0}


def test_a_factor_is_resumed_and_not_found_anew(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(job(tmp_path, balanced(), batches=Signalled(loader(), 4)))
    before = factors(tmp_path)
    assert len(before) == 2
    others = loader(images(24, seed=9))
    train(job(tmp_path, balanced(), batches=others, resume=True), resume=True)
    assert equal(factors(tmp_path), before)
    assert set(load_file(tmp_path / "student.safetensors")) == set(net(norm=True).state_dict())


def factors(folder: Path) -> dict[str, Any]:
    return {
        n: v for n, v in saved(folder)["distiller"].items() if n.startswith("objective.weights")
    }


def test_a_balance_is_found_on_the_first_batch_with_a_label(tmp_path: Path) -> None:
    first = next(loader().epoch(0)).ids.tolist()
    few = loader(images(24, withheld=first))
    assert bool((next(few.epoch(0)).target == -100).all())
    train(job(tmp_path, balanced(), batches=few, epochs=1))
    assert all(0 < float(factor) < float("inf") for factor in factors(tmp_path).values())


def test_b086_another_tap_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(job(tmp_path, everything(), batches=Signalled(loader(), 4)))
    with pytest.raises(RuntimeError, match=r"objective\.terms\.2\.projector"):
        train(job(tmp_path, distiller(textbook(), net(norm=True)), resume=True), resume=True)


@each(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_with_its_code(number: int, code: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left:
        train(job(tmp_path, batches=Signalled(loader(), 5, number)))
    assert left.value.code == code
    assert saved(tmp_path)["step"] == 6
    assert [line["step"] for line in timeless(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert signal.getsignal(number) is before


@each(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_last_evaluation_leaves_a_whole_training(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after a training is not begun; going on trains no more and changes nothing."""
    straight, broken, valid = tmp_path / "straight", tmp_path / "broken", images(9)
    expected = weights(train(job(straight, valid=valid)))
    calls: list[int] = []

    def signalled(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(number)
        return predictions(*given, **options)

    monkeypatch.setattr("limbeck.train.loop.predictions", signalled)
    with pytest.raises(SystemExit) as left:
        train(job(broken, valid=valid))
    assert left.value.code == code
    assert equal(load_file(broken / "student.safetensors"), expected)
    assert equal(saved(broken), saved(straight))
    assert timeless(broken) == timeless(straight)
    assert equal(weights(train(job(broken, valid=valid, resume=True), resume=True)), expected)
    assert timeless(broken) == timeless(straight)
    assert len(calls) == 3


def test_a_second_interrupt_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler gives way to the system's own."""
    sent: list[Any] = []
    monkeypatch.setattr(signal, "signal", lambda *given: sent.append(given))
    monkeypatch.setattr(signal, "raise_signal", lambda number: sent.append(number))
    from limbeck.train.interrupts import Interrupts

    interrupts = Interrupts()
    interrupts.receive(signal.SIGINT, None)
    assert (interrupts.received, sent) == (signal.SIGINT, [])
    interrupts.receive(signal.SIGINT, None)
    assert sent == [(signal.SIGINT, signal.SIG_DFL), signal.SIGINT]


def test_a_training_without_checkpoint_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=r"has no checkpoint to resume from; start it anew$"):
        train(job(tmp_path, resume=True), resume=True)


def test_resuming_a_finished_training_trains_no_more(tmp_path: Path) -> None:
    expected = weights(train(job(tmp_path)))
    before = timeless(tmp_path)
    assert equal(weights(train(job(tmp_path, resume=True), resume=True)), expected)
    assert timeless(tmp_path) == before
    assert [line["kind"] for line in before].count("done") == 1


def test_a_folder_is_free_again_after_a_training_however_it_ends(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(job(tmp_path, batches=Signalled(loader(), 2)))
    wrong = job(tmp_path, distiller(textbook(), net(9)), resume=True)
    with pytest.raises(RuntimeError, match="size mismatch"):
        train(wrong, resume=True)
    train(job(tmp_path, resume=True), resume=True)


def test_lines_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    """As after SIGKILL: the metrics are ahead of the checkpoint, the last line is cut."""
    straight = tmp_path / "straight"
    train(job(straight))
    broken = tmp_path / "broken"
    with pytest.raises(SystemExit):
        train(job(broken, batches=Signalled(loader(), 5)))
    metrics = broken / "metrics.jsonl"
    metrics.write_text((straight / "metrics.jsonl").read_text()[:-30])
    train(job(broken, resume=True), resume=True)
    assert timeless(broken) == timeless(straight)


def test_b085_every_saved_file_is_a_plain_student(tmp_path: Path) -> None:
    """Saved inside of an epoch, from a student with taps, an average and a projector."""
    made = everything()
    with pytest.raises(SystemExit):
        train(job(tmp_path, made, batches=Signalled(loader(), 4), valid=images(9), ema=0.5))
    for name in ("student.safetensors", "checkpoints/best.safetensors"):
        fresh = net(seed=7, norm=True, drop=0.3)
        fresh.load_state_dict(load_file(tmp_path / name), strict=True)
        assert not any(module._forward_hooks for module in fresh.modules())
        assert fresh.eval()(torch.zeros(1, 3, 6, 6)).isfinite().all()
    average = load_file(tmp_path / "student.safetensors")
    assert equal(average, saved(tmp_path)["average"])
    assert not equal(average, weights(made.student))
