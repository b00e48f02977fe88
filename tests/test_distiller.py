"""One module of student, sources and objective; public reports by their ids."""

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.networks import Convs, Custom, Noisy, batch, gradients, hooks, mlp
from torch import Tensor, nn

from limbeck import Distiller, Match, Reader, losses, truth
from limbeck.errors import LimbeckError
from limbeck.projectors import conv, linear

X, Y = batch()


def make(width: int = 2, seed: int = 0) -> Distiller:
    """Labels, soft labels and a projected hint."""
    hint = Match(losses.hint, "body", project=linear)
    objective = 0.5 * truth() + 0.5 * Match(losses.kl, temperature=4) + 10 * hint
    distiller = Distiller(mlp(width, seed), mlp(5, seed=1), objective)
    torch.manual_seed(seed)
    distiller.prepare(X, target=Y)
    return distiller


def train(distiller: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        x, y = batch(seed=seed)
        distiller(x, target=y).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def equal(a: Any, b: Any) -> bool:
    """Whether two nests of mappings, lists, tensors and numbers are bit-equal."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def refuses(distiller: Distiller, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        distiller.prepare(X, target=Y)


# ---- the dry run


def test_preparing_leaves_no_trace() -> None:
    student, teacher = Convs(4).train(), Convs(6).train()
    student.norm.eval()
    objective = truth() + Match(losses.hint, "act", project=conv) + Match(losses.kl)
    distiller = Distiller(student, teacher, objective)
    before = copy.deepcopy((student.state_dict(), teacher.state_dict()))
    modes = [module.training for module in student.modules()]
    state = torch.get_rng_state()
    distiller.prepare(torch.rand(2, 3, 8, 8, generator=torch.Generator()), target=Y[:2])
    assert torch.equal(torch.get_rng_state(), state)
    assert equal((student.state_dict(), teacher.state_dict()), before)
    assert [module.training for module in student.modules()] == modes
    assert hooks(student) == hooks(teacher) == 0
    assert all(parameter.grad is None for parameter in distiller.parameters())
    assert distiller.objective.training


def test_a_failed_preparation_leaves_no_trace() -> None:
    student = Noisy().train()
    distiller = Distiller(student, mlp(classes=5), 1.0 * Match(losses.kl))
    state = torch.get_rng_state()
    refuses(distiller, "kl: student 'output'")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in student.modules())


def test_projectors_are_drawn_from_the_seed() -> None:
    assert equal(make().state_dict(), make().state_dict())
    assert not equal(make().state_dict(), make(seed=3).state_dict())


def test_preparing_after_compiling_is_refused() -> None:
    distiller = Distiller(mlp(), mlp(seed=1), truth() + Match(losses.kl))
    distiller.student.compile(backend="eager")
    refuses(distiller, "call prepare before compiling")


def test_preparing_finds_a_tap_that_is_overwritten() -> None:
    student = Custom(lambda m, x: m.head(m.norm(x).relu_()), norm=nn.BatchNorm1d(4), head=mlp())
    teacher = Custom(lambda m, x: m.norm(x), norm=nn.Linear(4, 4))
    distiller = Distiller(student, teacher, truth() + Match(losses.hint, "norm"))
    refuses(distiller, "tap 'norm' was overwritten .*; build what follows with inplace=False")


# ---- a step


def test_a_step_without_gradient_is_an_evaluation() -> None:
    distiller = make()
    with torch.no_grad():
        step = distiller(X, target=Y)
    assert not step.loss.requires_grad
    assert torch.equal(step.loss, distiller(X, target=Y).loss)


def test_the_student_runs_once_a_step() -> None:
    student, calls = Convs(), []
    student.register_forward_hook(lambda *_: calls.append(1))
    matches = Match(losses.kl) + Match(losses.hint, "act") + Match(losses.attention, "act")
    distiller = Distiller(student, Convs(), truth() + matches)
    distiller(torch.rand(2, 3, 8, 8), target=Y[:2]).loss.backward()
    assert len(calls) == 1
    assert int(student.norm.num_batches_tracked) == 1


def test_losses_are_float32_under_autocast() -> None:
    distiller = make()
    full = distiller(X, target=Y)
    with torch.autocast("cpu", torch.bfloat16):
        step = distiller(X, target=Y)
    assert step.output.dtype == torch.bfloat16
    assert {step.loss.dtype, *(part.dtype for part in step.parts.values())} == {torch.float32}
    torch.testing.assert_close(step.loss, full.loss, rtol=0.02, atol=0)
    step.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(distiller).values())


def test_half_precision_students_have_float32_losses() -> None:
    student, teacher = mlp().bfloat16(), mlp(seed=1)
    objective = truth() + Match(losses.kl) + Match(losses.hint, "body")
    step = Distiller(student, teacher, objective)(X.bfloat16(), target=Y)
    assert step.loss.dtype == torch.float32
    step.loss.backward()
    assert student.head.weight.grad.dtype == torch.bfloat16


# ---- moving, copying, saving


def test_the_teacher_keeps_its_precision() -> None:
    distiller = make()
    teacher = distiller.sources["teacher"].model
    distiller.to(torch.float64)
    assert {parameter.dtype for parameter in distiller.parameters()} == {torch.float64}
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}
    assert distiller(X.double(), target=Y).loss.dtype == torch.float64


@pytest.mark.parametrize(
    "move",
    [lambda d: d.to("meta"), lambda d: d.to("meta").to_empty(device="cpu"), lambda d: d.half()],
)
def test_the_teacher_keeps_its_weights(move: Callable[[Distiller], Distiller]) -> None:
    distiller = make()
    teacher = distiller.sources["teacher"].model
    before = copy.deepcopy(teacher.state_dict())
    move(distiller)
    assert equal(teacher.state_dict(), before)


def test_the_teacher_follows_the_student_to_another_device() -> None:
    class Elsewhere(nn.Linear):
        """A model that notes where it is sent."""

        def to(self, *args: Any, **kwargs: Any) -> Any:
            sent.append(args)
            return self

    sent: list[Any] = []
    teacher = Elsewhere(4, 3)
    distiller = Distiller(mlp(), teacher, 1.0 * Match(losses.kl))
    distiller._apply(lambda t: torch.empty_like(t, device="meta"))
    assert sent == []
    teacher.to_empty(device="meta")
    distiller.to_empty(device="cpu")
    assert sent == [(torch.device("cpu"),)]


def test_copies_and_pickles_are_whole_and_apart() -> None:
    distiller = make()
    for twin in (copy.deepcopy(distiller), pickle.loads(pickle.dumps(distiller))):
        assert torch.equal(twin(X, target=Y).loss, distiller(X, target=Y).loss)
        train(twin, torch.optim.SGD(twin.parameters(), 0.1), range(1))
        assert not equal(twin.state_dict(), distiller.state_dict())
        mine = {p.data_ptr() for p in distiller.sources["teacher"].model.parameters()}
        assert not mine & {p.data_ptr() for p in twin.sources["teacher"].model.parameters()}


def test_b086_projectors_and_moments_go_on_where_they_were() -> None:
    straight, first, second = make(), make(), make(seed=9)
    optimizers = [torch.optim.Adam(d.parameters(), 0.01) for d in (straight, first, second)]
    train(straight, optimizers[0], range(4))
    train(first, optimizers[1], range(2))
    file = pickle.dumps((first.state_dict(), optimizers[1].state_dict()))
    state, moments = pickle.loads(file)
    second.load_state_dict(state)
    optimizers[2].load_state_dict(moments)
    train(second, optimizers[2], range(2, 4))
    assert "objective.terms.2.projector.weight" in state
    assert equal(second.state_dict(), straight.state_dict())
    assert equal(optimizers[2].state_dict(), optimizers[0].state_dict())


def test_b086_an_unprepared_distiller_says_what_it_lacks() -> None:
    objective = 1.0 * Match(losses.hint, "body", project=linear)
    fresh = Distiller(mlp(2), mlp(5, seed=1), objective)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*objective\.terms\.2\.projector"):
        fresh.load_state_dict(make().state_dict())


# ---- honest controls


def test_b143_weight_0_is_the_plain_loop_bit_for_bit() -> None:
    torch.manual_seed(0)
    plain = Noisy()
    student = copy.deepcopy(plain)
    objective = truth() + 0.0 * Match(losses.kl, temperature=4) + 0.0 * Match(losses.hint, "stem")
    distiller = Distiller(student, copy.deepcopy(plain), objective)
    distiller.prepare(X, target=Y)
    optimizers = [torch.optim.SGD(m.parameters(), 0.1, momentum=0.9) for m in (plain, student)]
    torch.manual_seed(1)
    for seed in range(10):
        x, y = batch(seed=seed)
        nn.functional.cross_entropy(plain(x), y).backward()
        optimizers[0].step()
        optimizers[0].zero_grad()
    torch.manual_seed(1)
    train(distiller, optimizers[1], range(10))
    assert equal(student.state_dict(), plain.state_dict())


class Adapted(nn.Module):
    """A frozen linear layer and a low-rank delta that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 3).requires_grad_(False)
        self.delta = nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 3, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.delta(x)


def test_b119_adapters_are_used_and_alone_trained() -> None:
    student = mlp().requires_grad_(False)
    student.head = Adapted()
    required = {name: p.requires_grad for name, p in student.named_parameters()}
    distiller = Distiller(student, mlp(seed=1), truth() + Match(losses.kl, temperature=4))
    distiller.prepare(X, target=Y)
    distiller.train()
    step = distiller(X, target=Y)
    step.loss.backward()
    assert {name: p.requires_grad for name, p in student.named_parameters()} == required
    assert set(gradients(student)) == {"head.delta.0.weight", "head.delta.1.weight"}
    assert torch.equal(step.output, student(X))
    assert float(step.parts["truth"]) == pytest.approx(
        float(nn.functional.cross_entropy(student(X), Y).detach())
    )


def test_b119_a_match_with_a_frozen_layer_is_refused() -> None:
    student = mlp()
    student.stem.requires_grad_(False)
    distiller = Distiller(student, mlp(seed=1), truth() + Match(losses.hint, "stem"))
    with pytest.raises(LimbeckError, match=r"hint\[stem\]: no gradient reaches the student"):
        distiller(X, target=Y)


# ---- pieces of a batch


@pytest.mark.parametrize("bounds", [(0, 12), (0, 1, 12), (0, 5, 6, 12), tuple(range(13))])
def test_shares_make_pieces_equal_the_undivided_batch(bounds: tuple[int, ...]) -> None:
    x, y = batch(12)
    x = x.double()
    y[[0, 1, 2, 3, 5, 9]] = -100
    mask = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1]).bool()
    masked = Match(losses.kl, temperature=2, given={"mask": "data:mask"}, name="masked")
    soft = Match(losses.reverse_kl, temperature=3)
    objective = 0.3 * truth(label_smoothing=0.1) + 0.7 * masked + soft
    objective = objective + 2 * Match(losses.hint, "body", project=linear)
    distiller = Distiller(mlp(2).double(), mlp(5, seed=1).double(), objective)
    distiller.prepare(x, target=y, mask=mask)

    whole = distiller(x, target=y, mask=mask)
    whole.loss.backward()
    expected = gradients(distiller)
    distiller.zero_grad()

    pieces = [
        (x[a:b], {"target": y[a:b], "mask": mask[a:b]}) for a, b in itertools.pairwise(bounds)
    ]
    total = distiller.items(12, target=y, mask=mask)
    loss, parts = torch.zeros((), dtype=torch.float64), dict.fromkeys(whole.parts, 0.0)
    for inputs, data in pieces:
        items = distiller.items(len(inputs), **data)
        share = {name: int(items[name]) / int(total[name]) for name in total}
        step = distiller(inputs, share=share, **data)
        step.loss.backward()
        loss += step.loss.detach()
        parts = {name: parts[name] + float(part) for name, part in step.parts.items()}
    torch.testing.assert_close(gradients(distiller), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss, whole.loss.detach(), rtol=1e-10, atol=0)
    assert parts == pytest.approx({n: float(p) for n, p in whole.parts.items()}, rel=1e-10)


def test_a_batch_without_labels_has_a_gradient_path() -> None:
    distiller = Distiller(mlp(), mlp(seed=1), 1.0 * truth())
    step = distiller(X, target=torch.full((6,), -100))
    step.loss.backward()
    assert step.loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(distiller).values())


# ---- refusals


def test_b061_data_parallel_is_refused() -> None:
    for models in ((nn.DataParallel(mlp()), mlp()), (mlp(), nn.DataParallel(mlp()))):
        with pytest.raises(LimbeckError, match=r"must not be in DataParallel.*DDP"):
            Distiller(*models, 1.0 * Match(losses.kl))


def test_b061_rows_of_student_and_teacher_belong_together() -> None:
    rows = torch.arange(6.0)[:, None].expand(-1, 4)
    student, teacher = (Reader(Custom(lambda m, x: m.same(x), same=nn.Identity())) for _ in "ab")
    distiller = Distiller(student, teacher, 1.0 * Match(losses.hint, "same"))
    _, signals = distiller.gather(rows, {})
    for source in ("student", "teacher"):
        assert signals[source]["same"][:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_b062_a_teacher_without_values_is_refused_by_the_name_of_its_weight() -> None:
    """ZeRO-3 leaves weights of no element, an unfilled model those of no device."""
    student, empty = mlp(), mlp(seed=1)
    empty.body.weight = nn.Parameter(torch.empty(0))
    with torch.device("meta"):
        unfilled = mlp(seed=1)
    for teacher, name in ((empty, "body.weight"), (unfilled, "stem.weight")):
        with pytest.raises(LimbeckError, match=f"{name} of source 'teacher' must hold values"):
            Distiller(student, teacher, truth() + Match(losses.kl))
