"""Who teaches: frozen teachers, ensembles, records; public reports by their ids."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import Custom, Mlp, Noisy, batch, mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from limbeck import Distiller, Ensemble, Frozen, Match, Reader, Recorded, losses, truth
from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

X, Y = batch()
BOTH = truth() + Match(losses.kl, temperature=4)


def steps(distiller: Distiller, count: int = 3, train: bool = True) -> None:
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    for seed in range(count):
        distiller.train(train)
        x, y = batch(seed=seed)
        distiller(x, target=y).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- frozen teachers


def test_frozen_teachers_run_before_the_student_and_other_sources_see_its_signals() -> None:
    class Seen(Source):
        def __call__(
            self, batch: Batch, signals: Signals, wants: Sequence[str]
        ) -> Mapping[str, Any]:
            order.append("other")
            return {"output": signals["student"]["output"].detach() + 1}

    order: list[str] = []
    student, teacher = mlp(), mlp()
    student.register_forward_hook(lambda *_: order.append("student"))
    teacher.register_forward_hook(lambda *_: order.append("teacher"))
    objective = Match(losses.kl) + Match(losses.hint, source="other")
    distiller = Distiller(student, {"other": Seen(), "teacher": teacher}, objective)
    step = distiller(X)
    assert order == ["teacher", "student", "other"]
    torch.testing.assert_close(step.parts["hint:other"], torch.tensor(1.0))


def test_b091_whatever_calls_train_the_teacher_stays_in_eval_mode() -> None:
    teacher = Noisy().eval()
    distiller = Distiller(mlp(), teacher, BOTH)
    for prod in (distiller.train, distiller.eval, teacher.train, teacher.drop.train):
        prod()
        first, second = (distiller.gather(X, {"target": Y})[1]["teacher"] for _ in range(2))
        assert torch.equal(first["output"], second["output"])
        assert not any(module.training for module in teacher.modules())
    assert not distiller.student.training
    distiller.train()
    assert distiller.student.head.training


def test_b092_no_buffer_of_the_teacher_moves() -> None:
    teacher = Noisy().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    steps(Distiller(mlp(), teacher, BOTH), 10)
    assert same(teacher.state_dict(), before)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_b092_batch_statistics_of_one_feature() -> None:
    teacher = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 2)).train()
    Frozen(teacher)(Batch(torch.full((8, 1), 3.0)), Signals(), ["output"])
    assert teacher[0].running_mean.tolist() == [0.0]
    assert int(teacher[0].num_batches_tracked) == 0


def test_b095_the_student_draws_the_same_numbers_with_and_without_a_teacher() -> None:
    torch.manual_seed(0)
    student = Noisy()
    twin = copy.deepcopy(student)
    torch.manual_seed(1)
    steps(Distiller(student, Noisy().train(), truth() + 0.0 * Match(losses.kl)))
    torch.manual_seed(1)
    Noisy()
    steps(Distiller(twin, {}, 1.0 * truth()))
    assert same(student.state_dict(), twin.state_dict())


def test_the_teacher_is_neither_trained_nor_saved() -> None:
    teacher = mlp(seed=1)
    distiller = Distiller(mlp(), teacher, BOTH)
    distiller.prepare(X, target=Y)
    mine = {id(parameter) for parameter in distiller.parameters()}
    assert not mine & {id(parameter) for parameter in teacher.parameters()}
    assert set(distiller.state_dict()) == {f"student.{name}" for name in mlp().state_dict()}
    assert all(module is not teacher for module in distiller.modules())


def test_b116_teacher_and_student_see_one_tensor() -> None:
    seen: list[Tensor] = []
    student, teacher = mlp(), mlp(seed=1)
    for model in (student, teacher):
        model.stem.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    mixed = 0.7 * X + 0.3 * X.flip(0)
    labels = 0.7 * nn.functional.one_hot(Y, 3) + 0.3 * nn.functional.one_hot(Y.flip(0), 3)
    Distiller(student, teacher, BOTH)(mixed, target=labels).loss.backward()
    assert [tensor is mixed for tensor in seen] == [True, True]


def test_b116_hard_labels_of_the_teacher_on_a_mixed_image() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]], dtype=torch.float64)
    hard = Match(lambda s, t: losses.cross_entropy(s, t.argmax(-1)), name="hard")
    signals = Signals(
        student={"output": logits},
        teacher={"output": torch.tensor([[2.0, 1.0, 0.0, -2.0]])},
        data={"target": torch.tensor([[0.0, 0.7, 0.0, 0.3]], dtype=torch.float64)},
    )
    parts = (truth() + hard)(signals)
    assert float(parts["truth"]) == pytest.approx(1.3951819, rel=1e-7)
    assert float(parts["hard"]) == pytest.approx(-float(logits.log_softmax(-1)[0, 0]))


def test_b127_the_teacher_keeps_nothing_for_the_backward() -> None:
    def saved(run: Callable[[], Any]) -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run()
        return sum(sizes)

    layers = [layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.ReLU())]
    teacher = nn.Sequential(nn.Linear(4, 256), *layers, nn.Linear(256, 3))
    student, (x, _) = mlp(), batch(256)
    matches = Match(losses.kl) + Match(losses.rkd_distance, "body", "38")
    distiller = Distiller(student, teacher, matches)
    assert saved(lambda: distiller.gather(x, {})) == saved(lambda: student(x)) > 0
    _, signals = distiller.gather(x, {})
    assert [signal.grad_fn for signal in signals["teacher"].values()] == [None, None]


def test_b133_the_teacher_runs_once_a_micro_batch() -> None:
    teacher, calls = mlp(seed=1), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    blocks = mlp()
    student = Custom(
        lambda m, x: m.blocks.head(checkpoint(m.blocks.stem, x, use_reentrant=False)), blocks=blocks
    )
    both = Match(losses.kl) + Match(losses.hint, "blocks.stem", "stem") + Match(losses.reverse_kl)
    distiller = Distiller(student, teacher, both)
    for rows in range(4):
        distiller(X[rows : rows + 2]).loss.backward()
    assert len(calls) == 4


def test_a_source_that_no_term_reads_does_not_run() -> None:
    idle = Custom(lambda m, x: pytest.fail("the idle teacher ran"))
    Distiller(mlp(), {"teacher": mlp(seed=1), "idle": idle}, BOTH)(X, target=Y)


@pytest.mark.parametrize("teacher", ["resnet50", Path("teacher.pt"), Mlp, lambda: mlp(), None])
def test_b137_a_teacher_is_a_module_or_a_source(teacher: Any) -> None:
    kind = type(teacher).__name__
    message = rf"must be an nn\.Module, a Reader or a Source, got {kind}"
    with pytest.raises(TypeError, match=f"'teacher' {message}"):
        Distiller(mlp(), teacher, BOTH)
    with pytest.raises(TypeError, match=message):
        Ensemble([mlp(), teacher], mean="logits")
    with pytest.raises(TypeError, match=message):
        Recorded(teacher, samples=6)


@pytest.mark.parametrize("wrap", [lambda m: m, Reader, Frozen])
def test_b137_every_documented_kind_of_teacher_teaches_alike(wrap: Callable[..., Any]) -> None:
    step = Distiller(mlp(), wrap(mlp(seed=1)), BOTH)(X, target=Y)
    assert torch.equal(step.loss, Distiller(mlp(), mlp(seed=1), BOTH)(X, target=Y).loss)


def test_a_teacher_in_its_own_precision() -> None:
    teacher = mlp(seed=1).bfloat16()
    _, signals = Distiller(mlp(), teacher, BOTH).gather(X, {"target": Y})
    assert torch.equal(signals["teacher"]["output"], teacher(X.bfloat16()))
    step = Distiller(mlp(), teacher, BOTH)(X, target=Y)
    assert (step.loss.dtype, step.output.dtype) == (torch.float32, torch.float32)


def test_integer_inputs_stay_integers() -> None:
    teacher = Custom(lambda m, ids, scale: m.table(ids).mean(1) * scale, table=nn.Embedding(9, 3))
    teacher = teacher.double()
    inputs = {"ids": torch.tensor([[1, 2], [3, 4]]), "scale": torch.ones(2, 1)}
    answer = Frozen(teacher)(Batch(inputs), Signals(), ["output"])["output"]
    assert torch.equal(answer, teacher(**inputs))


# ---- several


@pytest.mark.parametrize("name", ["student", "data"])
def test_names_that_are_taken(name: str) -> None:
    with pytest.raises(LimbeckError, match="'student' and 'data' are sources already"):
        Distiller(mlp(), {name: mlp(seed=1)}, 1.0 * truth())


def test_the_student_does_not_teach_itself() -> None:
    student = mlp()
    for teacher in (
        student,
        Ensemble([student, mlp(seed=1)], mean="logits"),
        torch.compile(student),
    ):
        with pytest.raises(LimbeckError, match="source 'teacher' is the student itself"):
            Distiller(student, teacher, BOTH)


def test_a_later_source_sees_the_signals_of_earlier_ones() -> None:
    class Doubled(Source):
        """Twice what the teacher said."""

        def __call__(
            self, batch: Batch, signals: Signals, wants: Sequence[str]
        ) -> Mapping[str, Any]:
            return {want: 2 * signals.of("teacher", "output") for want in wants}

    sources = {"teacher": mlp(seed=1), "twice": Doubled()}
    objective = Match(losses.kl) + Match(losses.kl, source="twice")
    _, signals = Distiller(mlp(), sources, objective).gather(X, {})
    assert torch.equal(signals["twice"]["output"], 2 * mlp(seed=1)(X))


def test_progress_reaches_every_source() -> None:
    told: list[float] = []

    class Listening(Frozen):
        def advance(self, progress: float) -> None:
            told.append(progress)

    inner = Recorded(Ensemble([Listening(mlp()), Listening(mlp())], mean="logits"), samples=6)
    Distiller(mlp(2), inner, BOTH).advance(0.5)
    assert told == [0.5, 0.5]
