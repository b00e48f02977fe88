"""Teachers beside students that teach one another: asked once, for all."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.networks import batch, gradients, mlp
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from limbeck import (
    Distiller,
    Drawn,
    Ema,
    Ensemble,
    Frozen,
    Match,
    Mutual,
    Past,
    Prior,
    Recorded,
    losses,
    truth,
)
from limbeck.errors import LimbeckError
from limbeck.projectors import linear
from limbeck.signals import Batch, Signals

X, Y = batch()
KL = Match(losses.kl, source="peers", temperature=2)
HINT = Match(losses.hint, "body", source="teacher", project=linear)


def students(count: int = 2) -> dict[str, nn.Module]:
    return {name: mlp(4 + k, seed=k) for k, name in zip(range(count), "abc", strict=False)}


def soft(source: str = "teacher") -> Match:
    return Match(losses.kl, source=source, temperature=2)


def make(sources: Any = None, objective: Any = None, **options: Any) -> Mutual:
    given = {"teacher": mlp(16, seed=9)} if sources is None else sources
    mutual = Mutual(students(), objective or truth() + KL + soft(), sources=given, **options)
    torch.manual_seed(0)
    mutual.prepare(X, target=Y)
    return mutual


def kl(s: Tensor, t: Tensor, temperature: float = 2.0) -> Tensor:
    log_q, log_p = (s / temperature).log_softmax(-1), (t.detach() / temperature).log_softmax(-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def calls_of(model: nn.Module) -> list[int]:
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return calls


# ---- the loss


@pytest.mark.parametrize("teach", ["each", "mean", "minlogit"])
def test_each_student_learns_from_labels_from_peers_and_from_the_teacher(teach: Any) -> None:
    teacher = mlp(16, seed=9)
    mutual = make({"teacher": teacher}, teach=teach, temperature=2)
    step = mutual(X, target=Y)
    assert list(step.parts) == ["a/truth", "a/kl:peers", "a/kl", "b/truth", "b/kl:peers", "b/kl"]
    for name, net in mutual.students.items():
        torch.testing.assert_close(step.parts[f"{name}/kl"], kl(net(X), teacher(X)).detach())
        torch.testing.assert_close(step.parts[f"{name}/truth"], F.cross_entropy(net(X), Y).detach())
    torch.testing.assert_close(torch.stack([*step.parts.values()]).sum(), step.loss.detach())


def test_the_teacher_runs_once_a_step_whatever_is_read_of_it() -> None:
    teacher = mlp(16, seed=9)
    mutual = make(teacher, truth() + KL + soft() + 0.1 * HINT)
    calls = calls_of(teacher)
    for _ in range(3):
        mutual(X, target=Y).loss.backward()
    assert len(calls) == 3
    assert len({p.data_ptr() for d in mutual.members() for p in d.objective.parameters()}) == 4


def test_students_of_a_teacher_alone_learn_as_each_by_itself() -> None:
    teacher, objective = mlp(16, seed=9), truth() + soft()
    mutual = make(teacher, objective)
    mutual(X, target=Y).loss.backward()
    for name, net in students().items():
        alone = Distiller(net, teacher, objective)
        alone(X, target=Y).loss.backward()
        assert all(map(torch.equal, gradients(mutual.students[name]).values(),
                       gradients(net).values()))  # fmt: skip


def test_no_gradient_reaches_the_teacher_which_is_neither_trained_nor_saved() -> None:
    teacher = mlp(16, seed=9).train()
    mutual = make(teacher)
    mutual(X, target=Y).loss.backward()
    assert gradients(teacher) == {}
    assert not teacher.training
    count = sum(p.numel() for net in mutual.students.values() for p in net.parameters())
    assert sum(p.numel() for p in mutual.parameters()) == count
    assert not any("teacher" in name for name in mutual.state_dict())


def test_a_teacher_of_weight_zero_leaves_the_same_bits() -> None:
    found = []
    for mutual in (make(), make({}, truth() + KL)):
        share = {n: float(not n.endswith("/kl")) for n in mutual.items(len(X), target=Y)}
        share = share if mutual.sources else dict.fromkeys(share, 1.0)
        mutual(X, target=Y, share=share).loss.backward()
        found.append(gradients(mutual))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_further_sources_are_asked_once_too() -> None:
    big, wide = mlp(16, seed=9), mlp(12, seed=8)
    sources = {"big": big, "both": Ensemble([big, wide], mean="logits"), "prior": Prior(3)}
    mutual = make(sources, truth() + soft("big") + soft("both") + soft("prior"))
    calls = calls_of(wide)
    parts = mutual(X, target=Y).parts
    assert len(calls) == 1
    z = mutual.students["b"](X)
    torch.testing.assert_close(parts["b/kl:both"], kl(z, (big(X) + wide(X)) / 2).detach())
    assert float(parts["a/kl:prior"]) > 0


def test_a_recorded_teacher_answers_once_for_each_image() -> None:
    teacher = mlp(16, seed=9)
    data = {"target": Y, "ids": torch.arange(6), "view": torch.zeros(6, dtype=torch.int64)}
    mutual = Mutual(students(), truth() + soft(), sources=Recorded(teacher, samples=6))
    mutual.prepare(X, **data)
    calls = calls_of(teacher)
    first, again = (mutual(X, **data).parts for _ in range(2))
    assert len(calls) == 1
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_draw_moves_once_a_step_and_all_students_have_the_same() -> None:
    one, two = mlp(16, seed=9), mlp(16, seed=8)
    mutual = make(Drawn([one, two], seed=0))
    with pytest.raises(LimbeckError, match="source 'teacher' changes with training"):
        mutual(X, target=Y)
    for step in range(1, 5):
        mutual.advance(step / 4)
        assert mutual.sources["teacher"].step == step
        chosen = [one, two][mutual.sources["teacher"].chosen()]
        parts = mutual(X, target=Y).parts
        for name, net in mutual.students.items():
            torch.testing.assert_close(parts[f"{name}/kl"], kl(net(X), chosen(X)).detach())


# ---- sources that are made of one student


def own(nets: dict[str, nn.Module]) -> Mutual:
    sources = {
        "teacher": mlp(16, seed=9),
        "slow": {name: Ema(net, 0.5) for name, net in nets.items()},
        "past": {name: Past(6) for name in nets},
    }
    mutual = Mutual(nets, truth() + soft() + soft("slow") + soft("past"), sources=sources)
    mutual.prepare(X, target=Y, ids=torch.arange(6))
    return mutual


def stepped(mutual: Mutual, steps: range) -> None:
    optimizer = torch.optim.SGD(mutual.parameters(), 0.1)
    for k in steps:
        x, y = batch(seed=k)
        mutual.advance(k / 8)
        mutual(x, target=y, ids=torch.arange(6)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_each_student_has_an_average_and_a_past_of_its_own() -> None:
    """As two distillers side by side, bit for bit, after several steps."""
    mutual = own(students())
    assert list(mutual.sources) == [
        "teacher", "a/slow", "a/past", "b/slow", "b/past",
    ]  # fmt: skip
    stepped(mutual, range(5))
    for name, net in students().items():
        sources = {"teacher": mlp(16, seed=9), "slow": Ema(net, 0.5), "past": Past(6)}
        alone = Distiller(net, sources, truth() + soft() + soft("slow") + soft("past"))
        stepped(alone, range(5))
        for key, value in net.state_dict().items():
            assert torch.equal(mutual.students[name].state_dict()[key], value)
        for source in ("slow", "past"):
            kept = mutual.sources[f"{name}/{source}"].state_dict()
            assert all(torch.equal(kept[k], v) for k, v in sources[source].state_dict().items())


def test_what_stops_goes_on_to_the_same_bits() -> None:
    straight, broken = own(students()), own(students())
    stepped(straight, range(6))
    stepped(broken, range(3))
    state = copy.deepcopy(broken.state_dict())
    kept = {name: source.state_dict() for name, source in broken.sources.items()}
    again = own(students())
    again.load_state_dict(state)
    for name, source in again.sources.items():
        source.load_state_dict(kept[name])
    stepped(again, range(3, 6))
    found, expected = again.state_dict(), straight.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# ---- as a group does


def test_preparing_leaves_no_trace_on_sources() -> None:
    past = {name: Past(6) for name in "ab"}
    sources = {"teacher": Recorded(mlp(16, seed=9), samples=6), "past": past}
    mutual = Mutual(students(), truth() + soft() + soft("past"), sources=sources)
    before = {name: copy.deepcopy(source.state_dict()) for name, source in mutual.sources.items()}
    mutual.prepare(X, target=Y, ids=torch.arange(6), view=torch.zeros(6, dtype=torch.int64))
    for name, source in mutual.sources.items():
        after = source.state_dict()
        assert all(torch.equal(after[key], value) for key, value in before[name].items())


def test_nothing_that_a_teacher_said_is_kept() -> None:
    mutual = make()
    mutual(X, target=Y)
    assert all(told.said == {} for told in mutual.told.values())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_one_teacher_of_its_own(copied: Callable[[Mutual], Mutual]) -> None:
    mutual = make()
    other = copied(mutual)
    assert other.told["teacher"].source is other.sources["teacher"]
    assert other.sources["teacher"].model is not mutual.sources["teacher"].model
    assert torch.equal(other(X, target=Y).loss, mutual(X, target=Y).loss)


def test_the_teacher_follows_to_a_device_and_keeps_its_precision() -> None:
    teacher = mlp(16, seed=9)
    mutual = make(teacher).double()
    assert next(teacher.parameters()).dtype == torch.float32
    assert mutual(X.double(), target=Y).loss.dtype == torch.float64
    assert [told.modules() for told in mutual.told.values()] == [[teacher]]


# ---- what is refused


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (lambda: {"a": mlp(seed=9)}, "'a' is a source of several students already"),
        (lambda: {"peers": mlp(seed=9)}, "'peers' is a source of several students already"),
        (lambda: Ema(mlp()), r"source 'teacher' knows one student alone; .*: \{'teacher': \{stu"),
        (lambda: {"past": Past(6)}, "source 'past' knows one student alone"),
        (lambda: Ensemble([mlp(), Ema(mlp())], mean="logits"), "knows one student alone"),
        (lambda: {"slow": {"a": Past(6)}}, r"one for each of \['a', 'b'\], got \['a'\]"),
    ],
)
def test_sources_that_students_cannot_have_are_refused(
    sources: Callable[[], Any], message: str
) -> None:
    with pytest.raises(LimbeckError, match=message):
        Mutual(students(), truth(), sources=sources())


def test_a_teacher_that_is_a_student_is_refused() -> None:
    nets = students()
    with pytest.raises(LimbeckError, match="student 'a': source 'teacher' is the student itself"):
        Mutual(nets, truth() + soft(), sources=nets["a"])


def test_an_average_of_another_student_is_refused() -> None:
    nets = students()
    slow = {"a": Ema(nets["b"]), "b": Ema(nets["a"])}
    with pytest.raises(LimbeckError, match="student 'a': source 'slow' is the average of another"):
        Mutual(nets, truth() + soft("slow"), sources={"slow": slow})


def test_a_signal_that_the_teacher_does_not_have_is_named() -> None:
    objective = truth() + Match(losses.hint, "body", "bodi")
    with pytest.raises(LimbeckError, match=r"got 'bodi'; did you mean 'body'\?"):
        Mutual(students(), objective, sources=mlp(16, seed=9))


def test_a_teacher_sees_the_inputs_of_all_or_none() -> None:
    mutual = make()
    with pytest.raises(LimbeckError, match="'teacher' answers once for all students, so that all"):
        mutual({"a": X, "b": X + 1}, target=Y)
    prior = make({"teacher": Prior(3)})
    assert prior({"a": X, "b": X + 1}, target=Y).parts["b/kl"] > 0


# ---- ranks

ROWS, STEPS = 12, 6
Group = Mutual


def whole() -> Mutual:
    """All kinds of sources, in float64."""
    nets = {name: net.double() for name, net in students(3).items()}
    sources = {
        "teacher": mlp(16, seed=9).double(),
        "drawn": Drawn([mlp(6, seed=7).double(), mlp(6, seed=8).double()], seed=0),
        "slow": {name: Ema(net, 0.5) for name, net in nets.items()},
    }
    objective = truth() + KL + soft() + soft("drawn") + soft("slow") + 0.1 * HINT
    mutual = Mutual(nets, objective, sources=sources).double()
    torch.manual_seed(0)
    mutual.prepare(torch.zeros(2, 4).double(), target=torch.tensor([0, 1]))
    return mutual


def train(wrapped: nn.Module, group: Mutual, ranks: int) -> dict[str, Tensor]:
    """Every rank takes unequal rows, with shares of the whole step."""
    rank = dist.get_rank() if ranks > 1 else 0
    optimizer = torch.optim.SGD(group.parameters(), 0.05, momentum=0.9)
    for step in range(STEPS):
        x, y = batch(ROWS, seed=step)
        rows = [torch.arange(5), torch.arange(5, ROWS)][rank] if ranks > 1 else torch.arange(ROWS)
        total, items = group.items(ROWS, target=y), group.items(len(rows), target=y[rows])
        share = {name: ranks * int(n) / int(total[name]) for name, n in items.items()}
        group.advance(step / STEPS)
        wrapped(x.double()[rows], target=y[rows], share=share).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    averages = {f"{n}/slow": group.sources[f"{n}/slow"].state_dict() for n in "abc"}
    return group.state_dict() | {(n, k): v for n, s in averages.items() for k, v in s.items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    group = whole()
    torch.save(train(DistributedDataParallel(group), group, ranks=2), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=2)
    alone = whole()
    trained = train(alone, alone, ranks=1)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == trained.keys()
        for key, value in trained.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10)


def test_frozen_sources_say_what_they_say_alone() -> None:
    teacher = Frozen(mlp(16, seed=9))
    told = make({"teacher": teacher}).ask(X, {"target": Y})["teacher"]["output"]
    assert torch.equal(told, teacher(Batch(X), Signals(), ["output"])["output"])
