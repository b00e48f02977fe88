"""Consistency of two views where the weak one is sure: FixMatch, UDA and what they are made of."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.networks import batch, mlp
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Ema, Frozen, Objective, View, losses, methods
from limbeck.errors import LimbeckError
from limbeck.methods.confident import Confident, sure
from limbeck.schedules import Linear
from limbeck.signals import Signals

each = pytest.mark.parametrize
both = each("name", ["fixmatch", "uda"])
HALF, CLASSES = 9, 4


class Table(nn.Module):
    """A student that answers with its parameters, row by row."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits + 0 * x.sum()


def method(name: str, **given: Any) -> Objective:
    return getattr(methods, name)(**given)


def halves(n: int) -> dict[str, Tensor]:
    first = torch.arange(2 * n) < n
    return {"first": first, "second": ~first}


def scene(seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits of strong views, then of weak ones, and labels of which most are withheld."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2 * HALF, CLASSES, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (HALF,), generator=generator)
    labels[::2] = -100
    return logits, labels


def learned(
    objective: Objective, logits: Tensor, labels: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """The parts, and the gradient at each row."""
    distiller = Distiller(Table(logits.clone()), {"view": View()}, objective)
    distiller.advance(0.0)
    step = distiller(torch.zeros(1), target=labels.repeat(2), **halves(len(logits) // 2))
    step.loss.backward()
    assert distiller.student.logits.grad is not None
    return step.parts, distiller.student.logits.grad


def oracle(
    logits: np.ndarray, labels: np.ndarray, name: str, threshold: float, sharpen: float
) -> tuple[float, float]:
    """Both terms with loops over images and classes."""

    def probabilities(row: np.ndarray, temperature: float = 1.0) -> list[float]:
        top = max(float(z) for z in row)
        powers = [math.exp((float(z) - top) / temperature) for z in row]
        return [power / sum(powers) for power in powers]

    n, hard, truth, labelled = len(labels), 0.0, 0.0, 0
    for i in range(n):
        strong, weak = probabilities(logits[i]), probabilities(logits[n + i])
        if labels[i] != -100:
            truth, labelled = truth - math.log(weak[labels[i]]), labelled + 1
        if max(weak) <= threshold:
            continue
        if name == "fixmatch":
            hard -= math.log(strong[weak.index(max(weak))])
        else:
            sharp = probabilities(logits[n + i], sharpen)
            hard += sum(p * (math.log(p) - math.log(q)) for p, q in zip(sharp, strong, strict=True))
    return truth / labelled, hard / n


@both
@each("threshold", [0.0, 0.5, 0.8, 0.95])
@each("seed", [0, 1, 2])
def test_it_is_the_formula(name: str, threshold: float, seed: int) -> None:
    logits, labels = scene(seed)
    parts, _ = learned(method(name, threshold=threshold), logits, labels)
    expected = oracle(logits.numpy(), labels.numpy(), name, threshold, 0.4)
    for part, value in zip(("truth", name), expected, strict=True):
        torch.testing.assert_close(float(parts[part]), value, rtol=1e-12, atol=1e-12)


@both
def test_its_gradient_is_that_of_differences(name: str) -> None:
    """At the strong rows; at the weak ones the labels pull alone."""
    logits, labels = scene()
    objective = method(name, threshold=0.7, weight=1.0)
    _, gradient = learned(objective, logits, labels)
    for i, c in ((0, 0), (3, 2), (HALF - 1, 1)):
        moved = [logits.clone(), logits.clone()]
        moved[0][i, c] += 1e-6
        moved[1][i, c] -= 1e-6
        up, down = (float(sum(learned(objective, z, labels)[0].values())) for z in moved)
        assert float(gradient[i, c]) == pytest.approx((up - down) / 2e-6, abs=1e-7)
    assert bool(gradient[:HALF].any())


@both
def test_the_weak_view_gets_no_gradient_of_it(name: str) -> None:
    logits, labels = scene()
    _, gradient = learned(method(name, threshold=0.5, truth_weight=0), logits, labels)
    assert gradient[HALF:].count_nonzero() == 0
    assert bool(gradient[:HALF].any())


def test_labels_are_learned_of_the_weak_view_alone() -> None:
    logits, labels = scene()
    _, gradient = learned(method("fixmatch", threshold=1.0), logits, labels)
    assert gradient[:HALF].count_nonzero() == 0
    assert (gradient[HALF:].any(1) == (labels != -100)).all()


def test_at_threshold_0_all_learn_their_hard_pseudo_labels() -> None:
    logits, labels = scene()
    parts, _ = learned(method("fixmatch", threshold=0.0), logits, labels)
    assert torch.equal(parts["fixmatch"], losses.hard(logits[:HALF], logits[HALF:]))


@both
@each("scale", [3.0, 1e4])
def test_at_threshold_1_nothing_is_learned_however_sure(name: str, scale: float) -> None:
    logits, labels = scene(scale=scale)
    parts, gradient = learned(method(name, threshold=1.0, truth_weight=0), logits, labels)
    assert parts[name] == 0
    assert gradient.count_nonzero() == 0


def test_with_no_threshold_and_no_sharpening_uda_is_the_divergence_of_views() -> None:
    logits, labels = scene()
    parts, _ = learned(method("uda", threshold=0.0, sharpen=1.0), logits, labels)
    torch.testing.assert_close(parts["uda"], losses.kl(logits[:HALF], logits[HALF:]))


def test_the_divisor_is_the_number_of_images_and_not_of_the_sure_ones() -> None:
    """One more image that is sure of nothing makes less of those that are."""
    sure_one, unsure = torch.tensor([[9.0, 0, 0, 0]]), torch.zeros(1, CLASSES)
    strong = torch.tensor([[1.0, 2, 0, 0]])
    label = torch.tensor([-100])
    alone, _ = learned(method("fixmatch"), torch.cat([strong, sure_one]).double(), label)
    more = torch.cat([strong, strong, sure_one, unsure]).double()
    diluted, _ = learned(method("fixmatch"), more, label.repeat(2))
    torch.testing.assert_close(diluted["fixmatch"], alone["fixmatch"] / 2)


def test_its_items_are_the_images_and_those_of_the_truth_the_labelled_ones() -> None:
    logits, labels = scene()
    distiller = Distiller(Table(logits), {"view": View()}, methods.fixmatch())
    items = distiller.items(2 * HALF, target=labels.repeat(2), **halves(HALF))
    assert (int(items["fixmatch"]), int(items["truth"])) == (HALF, int((labels != -100).sum()))


def test_the_threshold_may_follow_a_schedule() -> None:
    logits, labels = scene()
    distiller = Distiller(Table(logits), {"view": View()}, methods.fixmatch(Linear(0.0, 1.0)))
    seen = []
    for progress in (0.0, 0.6, 1.0):
        distiller.advance(progress)
        given = {"target": labels.repeat(2), **halves(HALF)}
        seen.append(float(distiller(torch.zeros(1), **given).parts["fixmatch"]))
    expected = [oracle(logits.numpy(), labels.numpy(), "fixmatch", t, 1.0)[1] for t in (0, 0.6, 1)]
    assert seen == pytest.approx(expected, abs=1e-6)
    assert seen[0] > seen[1] > seen[2] == 0


# ---- who teaches


def test_a_mean_teacher_names_the_classes_from_the_weak_view() -> None:
    student = mlp().double()
    made = Distiller(student, {"view": View(Ema(student, 0.5))}, methods.fixmatch(0.4))
    made.advance(0.0)
    student.head.bias.data += torch.tensor([0.2, -0.2, 0.4])
    made.advance(0.0)
    x, y = batch(2 * HALF)
    found = made(x.double(), target=y, **halves(HALF)).parts["fixmatch"]
    average = made.sources["view"].modules()[0]
    weak, strong = average(x[HALF:].double()), student(x[:HALF].double())
    counts = sure(weak, 0.4)
    assert 0 < int(counts.sum()) < HALF
    items = nn.functional.cross_entropy(strong, weak.argmax(1), reduction="none")
    torch.testing.assert_close(found, (items * counts).sum() / HALF)


def test_a_trained_teacher_may_name_them_too() -> None:
    teacher = mlp(seed=1).double()
    made = Distiller(mlp().double(), {"view": View(teacher)}, methods.uda(0.4))
    x, y = batch(2 * HALF)
    said = made.gather(x.double(), {"target": y, **halves(HALF)})[1]["view"]["output"]
    assert torch.equal(said, Frozen(teacher).model(x.double()).detach().roll(HALF, 0))
    assert made.early == ["view"]


def test_an_average_of_another_model_is_refused_inside_of_a_view_too() -> None:
    with pytest.raises(LimbeckError, match="source 'view' is the average of another model"):
        Distiller(mlp(), {"view": View(Ema(mlp()))}, methods.fixmatch())


# ---- the match


def test_maps_have_their_classes_on_an_axis_of_their_own() -> None:
    s, t = 3 * torch.randn(2, 2, CLASSES, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    match = Confident(losses.hard, threshold=0.8, axis=1)
    found = match(Signals(student={"output": s}, teacher={"output": t}))["hard"]
    items = nn.functional.cross_entropy(s, t.argmax(1), reduction="none")
    torch.testing.assert_close(found, (items * (t.softmax(1).amax(1) > 0.8)).sum() / 18)


def test_a_weight_of_the_items_is_kept() -> None:
    s, t = scene()[0].chunk(2)
    weight = torch.arange(HALF).double()
    match = Confident(losses.hard, threshold=0.0, given={"weight": "data:weight"})
    found = match(Signals(student={"output": s}, teacher={"output": t}, data={"weight": weight}))
    torch.testing.assert_close(found["hard"], losses.hard(s, t, weight=weight))


def test_half_precision_is_judged_in_single() -> None:
    """In float16 the probability would be 0.9500, which is no more than the threshold."""
    logits = torch.tensor([[2.9453125, 0.0]], dtype=torch.float16)
    assert sure(logits, 0.95).tolist() == [bool(logits.float().softmax(1)[0, 0] > 0.95)] == [True]


def test_a_loss_without_weights_cannot_leave_items_out() -> None:
    with pytest.raises(LimbeckError, match="got 'weight'"):
        Confident(lambda s, t: (s - t).mean(), threshold=0.5)


# ---- ranks

STEPS, ROWS = 5, 8


def made(name: str) -> Distiller:
    student = mlp().double()
    objective = method(name, threshold=Linear(0.35, 0.5), weight=2.0)
    return Distiller(student, {"view": View(Ema(student, 0.7))}, objective)


def train(wrapped: nn.Module, distiller: Distiller, ranks: int) -> list[float]:
    """Pairs are divided unevenly in their labels and in what is sure; the loss of each step."""
    rank = dist.get_rank() if ranks > 1 else 0
    optimizer = torch.optim.SGD(distiller.parameters(), 0.3)
    seen = []
    for step in range(STEPS):
        x, y = batch(2 * ROWS, seed=step)
        y = y[:ROWS].clone()
        y[: step + 1] = -100
        given = {"target": y.repeat(2), **halves(ROWS)}
        total = distiller.items(2 * ROWS, **given)
        mine = torch.arange(2 * ROWS).view(2, -1).chunk(ranks, 1)[rank].flatten()
        own = {key: value[mine] for key, value in given.items()}
        items = distiller.items(len(mine), **own)
        share = {part: ranks * int(n) / int(total[part]) for part, n in items.items()}
        distiller.advance(step / (STEPS - 1))
        result = wrapped(x[mine].double(), share=share, **own)
        result.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(result.parts[distiller.objective.parts()[1]]))
    return seen


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    for name in ("fixmatch", "uda"):
        distiller = made(name)
        parts = train(DistributedDataParallel(distiller), distiller, ranks=2)
        torch.save((parts, distiller.state_dict()), folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return folder


@both
def test_two_ranks_equal_one_process(name: str, folder: Path) -> None:
    alone = made(name)
    start = {key: value.clone() for key, value in alone.state_dict().items()}
    parts = train(alone, alone, ranks=1)
    (first, state), (second, other) = (torch.load(folder / f"{name}-{r}.pt") for r in (0, 1))
    assert first != second
    torch.testing.assert_close([(a + b) / 2 for a, b in zip(first, second, strict=True)], parts)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=1e-10)
        assert torch.equal(state[key], other[key])
        assert not torch.equal(value, start[key])
