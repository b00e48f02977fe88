"""What holds of every source that is made without a frozen teacher, or of several."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import Noisy, hooks, mlp
from tests.sources.made import (
    MOVING,
    SAMPLES,
    SOFT,
    SOURCES,
    data,
    distiller,
    noisy,
    same,
    train,
    weights,
)
from torch import Tensor, nn

from limbeck import (
    Distiller,
    Ema,
    Ensemble,
    Match,
    Past,
    Reader,
    Recorded,
    Routed,
    View,
    losses,
    truth,
)
from limbeck.checkpoint import load_state, save_state
from limbeck.errors import LimbeckError
from limbeck.sources import Source

each = pytest.mark.parametrize
every = each("name", SOURCES)


def models(name: str) -> list[nn.Module]:
    return distiller(name).sources["own"].modules()


@every
def test_no_gradient_passes_through_the_source(name: str) -> None:
    """The student's gradient is that of what the source said, taken for a constant."""
    made = distiller(name, 1.0 * SOFT)
    train(made, range(3))
    x, given = data(3)
    made.advance(0.3)
    made.student.eval()
    _, signals = made.gather(x, given)
    said = signals["own"]["output"]
    assert not said.requires_grad
    made(x, **given).loss.backward()
    found = {n: p.grad.clone() for n, p in made.student.named_parameters()}
    made.student.zero_grad()
    losses.kl(made.student(x), said, temperature=2).backward()
    assert same(found, {n: p.grad for n, p in made.student.named_parameters()})
    assert any(bool(gradient.any()) for gradient in found.values())
    assert [p.grad for m in made.sources["own"].modules() for p in m.parameters() if p.grad] == []


@every
def test_the_source_is_neither_trained_nor_saved(name: str) -> None:
    made = distiller(name)
    train(made, range(2))
    mine = {id(parameter) for parameter in made.parameters()}
    assert set(made.state_dict()) == {f"student.{n}" for n in Noisy().state_dict()}
    assert len(mine) == len(list(Noisy().parameters()))
    inside = [module for model in made.sources["own"].modules() for module in model.modules()]
    assert not {id(p) for module in inside for p in module.parameters()} & mine
    assert not {id(module) for module in inside} & {id(module) for module in made.modules()}


@each("name", [name for name in SOURCES if models(name)])
def test_answering_moves_no_buffer_of_the_source(name: str) -> None:
    made = distiller(name)
    before = [weights(model) for model in made.sources["own"].modules()]
    for step in range(3):
        x, given = data(step)
        made.sources["own"].modules()[0].train()
        made.train().gather(x, given)
    assert all(map(same, before, map(weights, made.sources["own"].modules())))


@every
def test_distillation_of_no_weight_is_plain_training(name: str) -> None:
    twin, made = noisy(), distiller(name, truth() + 0.0 * SOFT)
    train(made, range(4))
    train(Distiller(twin, {}, 1.0 * truth()), range(4))
    assert same(weights(made.student), weights(twin))


@every
def test_distillation_of_some_weight_is_not(name: str) -> None:
    twin, made = noisy(), distiller(name)
    train(made, range(4))
    train(Distiller(twin, {}, 1.0 * truth()), range(4))
    assert not same(weights(made.student), weights(twin))


@each(
    ("source", "theirs", "message"),
    [
        (Ema, "bodi", "did you mean 'body'"),
        (lambda student: Past(SAMPLES), "bodi", "did you mean 'body'"),
        (lambda student: View(), "bodi", "did you mean 'body'"),
        (lambda student: Routed({"a": student, "b": mlp()}), "bodi", "did you mean 'body'"),
        (SOURCES["drawn"], "steem", "did you mean 'stem'"),
        (SOURCES["prior"], "outptu", "a prior gives 'output' alone, got 'outptu'; did you mean"),
    ],
)
def test_unknown_signals_are_refused_with_the_closest_that_is(
    source: Any, theirs: str, message: str
) -> None:
    student = mlp()
    with pytest.raises(LimbeckError, match=message):
        Distiller(
            student, {"own": source(student)}, Match(losses.hint, "body", theirs, source="own")
        )


@every
def test_a_source_that_moves_must_be_advanced(name: str) -> None:
    made = distiller(name)
    x, given = data(0)
    with torch.no_grad():
        made(x, **given)
    if name in MOVING:
        with pytest.raises(LimbeckError, match=r"source 'own' changes with training, but advance"):
            made(x, **given)
        made.advance(0.0)
    assert made(x, **given).loss.isfinite()


def test_a_source_that_moves_and_is_not_read_needs_no_advance() -> None:
    student = mlp()
    made = Distiller(student, {"own": Ema(student)}, 1.0 * truth())
    x, given = data(0)
    assert made(x, **given).loss.isfinite()


def test_a_schedule_alone_does_not_count_as_an_advance_of_sources() -> None:
    made = distiller("ema")
    made.objective.advance(0.0)
    x, given = data(0)
    with pytest.raises(LimbeckError, match="changes with training"):
        made(x, **given)


@each("name", [name for name in MOVING if name != "drawn"])
def test_what_moves_is_not_recorded(name: str) -> None:
    with pytest.raises(LimbeckError, match="changes with training; leave Recorded out"):
        Recorded(SOURCES[name](mlp()), samples=SAMPLES)


@every
def test_preparing_leaves_no_trace(name: str) -> None:
    made, twin = distiller(name), distiller(name)
    optimizer = train(made, range(3))
    x, given = data(5)
    before = copy.deepcopy(made.sources["own"].state_dict())
    made.prepare(x, **given)
    assert same(made.sources["own"].state_dict(), before)
    train(made, range(3, 5), optimizer)
    train(twin, range(5))
    assert same(weights(made.student), weights(twin.student))


@every
@each("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_copies_go_on_alike_and_apart(name: str, copied: Any) -> None:
    made = distiller(name)
    train(made, range(3))
    twin = copied(made)
    state = copy.deepcopy(made.sources["own"].state_dict())
    train(twin, range(3, 6))
    assert same(made.sources["own"].state_dict(), state)
    train(made, range(3, 6))
    assert same(weights(twin), weights(made))
    assert same(twin.sources["own"].state_dict(), made.sources["own"].state_dict())


@every
@each("stop", [1, 3])
def test_stopping_and_going_on_leaves_the_same_bits(name: str, stop: int, tmp_path: Path) -> None:
    """Saved with other global randomness and into a student that starts otherwise."""
    straight, broken, again = distiller(name), distiller(name), distiller(name, seed=9)
    train(straight, range(6))
    optimizer = train(broken, range(stop))
    state: dict[str, Any] = {
        "distiller": broken.state_dict(),
        "sources": broken.sources["own"].state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    save_state(state, tmp_path / "last.pt")
    state = load_state(tmp_path / "last.pt")
    again.load_state_dict(state["distiller"])
    again.sources["own"].load_state_dict(state["sources"])
    resumed = torch.optim.SGD(again.parameters(), 0.1, momentum=0.9)
    resumed.load_state_dict(state["optimizer"])
    train(again, range(stop, 6), resumed)
    assert same(weights(again), weights(straight))
    assert same(again.sources["own"].state_dict(), straight.sources["own"].state_dict())


@each("name", MOVING)
def test_the_state_that_is_saved_is_a_copy(name: str) -> None:
    made = distiller(name)
    optimizer = train(made, range(2))
    state = made.sources["own"].state_dict()
    before = copy.deepcopy(state)
    train(made, range(2, 4), optimizer)
    assert same(state, before)
    assert not same(state, made.sources["own"].state_dict())


@each("name", [name for name in SOURCES if models(name)])
def test_models_follow_to_another_device_in_their_own_precision(name: str) -> None:
    made, sent = distiller(name), []
    for model in made.sources["own"].modules():
        model.to = lambda *to: sent.append(to)
    made._apply(lambda t: torch.empty_like(t, device="meta"))
    assert sent == []
    for model in made.sources["own"].modules():
        model.to_empty(device="meta")
    made.to_empty(device="cpu")
    assert len(sent) >= len(made.sources["own"].modules())
    assert set(sent) == {(torch.device("cpu"),)}
    made.to(torch.float64)
    for model in made.sources["own"].modules():
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@every
def test_models_carry_no_taps(name: str) -> None:
    student = noisy()
    objective = Match(losses.kl, source="own") + Match(losses.kl, "head", source="own")
    if name == "prior":
        objective = 1.0 * Match(losses.kl, "head", "output", source="own")
    made = Distiller(student, {"own": SOURCES[name](student)}, objective)
    train(made, range(2))
    assert [hooks(model) for model in [student, *made.sources["own"].modules()]] == [0] * (
        1 + len(made.sources["own"].modules())
    )


@each(
    "own",
    [
        View(),
        Past(SAMPLES),
        Ensemble([Past(SAMPLES), View()], mean="logits"),
        Recorded(View(), samples=SAMPLES),
    ],
)
def test_the_student_is_read_for_what_its_sources_are_made_of(own: Source) -> None:
    """No match reads the student's "stem"."""
    made = Distiller(mlp(), {"own": own}, 1.0 * Match(losses.hint, "body", "stem", source="own"))
    made.advance(0.0)
    x, given = data(0)
    said = made.gather(x, {**given, "view": torch.zeros_like(given["ids"])})[1]["own"]["stem"]
    stem = made.student.stem(x)
    if isinstance(own, Past):
        assert torch.equal(said, stem)
    elif isinstance(own, Ensemble):
        torch.testing.assert_close(said, (stem + stem.roll(3, 0)) / 2)
    else:
        assert torch.equal(said, stem.roll(3, 0))


@each("name", ["ema", "past", "view"])
def test_a_reader_of_the_student_adapts_and_names_for_its_sources_too(name: str) -> None:
    student = mlp()
    reader = Reader(student, inputs=lambda x: 2 * x, names={"low": "stem"})
    made = {"ema": Ema(reader), "past": Past(SAMPLES), "view": View()}[name]
    twin = Distiller(reader, {"own": made}, 1.0 * Match(losses.hint, "low", source="own"))
    x, given = data(0)
    said = twin.gather(x, given)[1]["own"]["low"]
    expected: Tensor = student.stem(2 * x)
    assert torch.equal(said, expected.roll(3, 0) if name == "view" else expected)
