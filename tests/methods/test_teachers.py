"""Several teachers: their weights against loops in NumPy, what they teach, and what learns."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.networks import batch, gradients, mlp
from torch import Tensor

from limbeck import Distiller, Ensemble, Match, Objective, losses, methods
from limbeck.errors import LimbeckError
from limbeck.methods.rows_teachers import ROWS
from limbeck.methods.weighed import AMTML, Weighed
from limbeck.methods.weighting import by_entropy, by_gradients, by_labels, flattest
from limbeck.signals import Signals

each = pytest.mark.parametrize
Array = NDArray[Any]
X, Y = batch()
NAMES = ["ebkd", "camkd", "aekd", "amtml"]
MAKE: dict[str, Callable[..., Objective]] = {
    "ebkd": methods.ebkd,
    "camkd": methods.camkd,
    "aekd": methods.aekd,
    "amtml": lambda teachers, **keys: methods.amtml(teachers, "body", **keys),
}


def random(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


# ---- weights by loops


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max())
    return e / e.sum()


def entropies(t: Array, b: int) -> list[float]:
    found = []
    for z in t:
        p = softmax(z[b])
        found.append(-sum(x * np.log(x) for x in p if x > 0))
    return found


def rest(shares: Any) -> list[float]:
    return [(1 - share) / (len(shares) - 1) for share in shares]


def entropy_weights(t: Array) -> Array:
    rows = []
    for b in range(t.shape[1]):
        h = entropies(t, b)
        rows.append(rest([x / sum(h) for x in h]))
    return np.array(rows).T


def label_weights(t: Array, y: Array) -> Array:
    rows = []
    for b, label in enumerate(y):
        errors = [0.0 if label == -100 else -np.log(softmax(z[b])[label]) for z in t]
        rows.append(rest(softmax(np.array(errors))))
    return np.array(rows).T


def shortest(g: Array, limit: float) -> float:
    """The least a' G a by trying which a are 0, which at the limit and which between."""
    best = np.inf
    for where in itertools.product("0cf", repeat=len(g)):
        free = [k for k, w in enumerate(where) if w == "f"]
        a = np.array([limit if w == "c" else 0.0 for w in where])
        if free:
            n = len(free)
            system = np.block([[g[np.ix_(free, free)], np.ones((n, 1))], [np.ones((1, n)), 0]])
            right = np.append(-(g @ a)[free], 1 - a.sum())
            a[free] = np.linalg.lstsq(system, right, rcond=None)[0][:n]
        if abs(a.sum() - 1) < 1e-9 and a.min() > -1e-9 and a.max() < limit + 1e-9:
            best = min(best, float(a @ g @ a))
    return best


@each("teachers", [2, 3, 5])
def test_weights_by_entropy(teachers: int) -> None:
    t = random(teachers, 4, 6)
    np.testing.assert_allclose(by_entropy(t), entropy_weights(t.numpy()), rtol=1e-12)


@each("teachers", [2, 3, 5])
def test_weights_by_labels(teachers: int) -> None:
    t, y = random(teachers, 4, 6), torch.tensor([0, -100, 5, 2])
    np.testing.assert_allclose(by_labels(t, y), label_weights(t.numpy(), y.numpy()), rtol=1e-12)
    assert by_labels(t, y)[:, 1].tolist() == pytest.approx([1 / teachers] * teachers)


@each(("teachers", "limit"), [(2, 0.6), (2, 1.0), (3, 0.6), (3, 0.34), (4, 0.6), (5, 0.3)])
@each("seed", range(6))
def test_weights_by_gradients_are_the_best(teachers: int, limit: float, seed: int) -> None:
    vectors = random(teachers, 7, seed=seed) + random(7, seed=100 + seed)
    products = vectors @ vectors.T
    a = flattest(products, limit).numpy()
    assert a.sum() == pytest.approx(1, abs=1e-12)
    assert a.min() >= 0
    assert a.max() <= limit
    best = shortest(products.numpy(), limit)
    assert a @ products.numpy() @ a == pytest.approx(best, rel=1e-9)


@each("vectors", [torch.ones(3, 2), torch.zeros(3, 2), torch.tensor([[1.0], [2.0], [-1.0]])])
def test_the_best_weights_of_collinear_gradients(vectors: Tensor) -> None:
    """They are many: any will do."""
    products = (vectors @ vectors.T).double()
    a = flattest(products, 0.6)
    assert a.sum().item() == pytest.approx(1)
    assert (a @ products @ a).item() == pytest.approx(shortest(products.numpy(), 0.6), abs=1e-12)


def test_a_limit_below_an_equal_share_is_an_equal_share() -> None:
    assert flattest(torch.diag(torch.tensor([1.0, 5.0])), 0.1).tolist() == [0.5, 0.5]


def test_the_gradients_are_those_of_the_losses() -> None:
    t, s = random(3, 4, 5), random(4, 5, seed=1).requires_grad_()
    rows = [torch.autograd.grad(losses.kl(s, z, temperature=2.0), s)[0].sum(0) for z in t]
    g = torch.stack(rows)
    found = by_gradients(t, s, temperature=2.0, limit=0.6)
    np.testing.assert_allclose(found, flattest(g @ g.T, 0.6), atol=1e-9)


# ---- what is taught


def kl(s: Array, t: Array, temperature: float) -> float:
    """Of one item, with T^2."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    return temperature**2 * sum(x * np.log(x / y) for x, y in zip(p, q, strict=True))


def value(objective: Objective, s: Tensor, t: Tensor, **student: Tensor) -> Tensor:
    """The part of an objective without truth, for teachers a, b, c, ..."""
    sides = {"student": {"output": s, **student}}
    sides |= {name: {"output": z} for name, z in zip("abcdef", t, strict=False)}
    signals = Signals(sides, data={"target": torch.tensor([0, 2, -100, 1])})
    objective.prepare(signals)
    (found,) = objective(signals).values()
    return found


@each(
    ("name", "weights"),
    [
        ("ebkd", entropy_weights),
        ("camkd", lambda t: label_weights(t, np.array([0, 2, -100, 1]))),
    ],
)
def test_the_value_by_loops(name: str, weights: Callable[[Array], Array]) -> None:
    s, t = random(4, 5, seed=9), random(3, 4, 5)
    objective = getattr(methods, name)(list("abc"), 3.0, weight=1.0, truth_weight=0)
    w, a, b = weights(t.numpy()), s.numpy(), t.numpy()
    terms = [w[k, i] * kl(a[i], b[k, i], 3.0) for k in range(3) for i in range(4)]
    assert value(objective, s, t).item() == pytest.approx(sum(terms) / 4, rel=1e-10)


def test_the_value_of_learned_weights_by_loops() -> None:
    s, t, f = random(4, 5, seed=9), random(3, 4, 5), random(4, 6, 2, 2, seed=3)
    objective = AMTML(list("abc"), "f", temperature=3.0).double()
    first = value(objective, s, t, f=f)
    equal = Ensemble([mlp()] * 3, mean="probabilities", temperature=3.0).combine(list(t))
    torch.testing.assert_close(first, losses.kl(s, equal, temperature=3.0))
    assert objective.latent is not None
    assert objective.importance is not None
    u, v = objective.latent.data.copy_(random(3, 6)), objective.importance.data.copy_(random(6))
    total = 0.0
    for i in range(4):
        a = f[i].amax((1, 2))
        w = softmax(np.array([sum(v[d] * u[k, d] * a[d] for d in range(6)) for k in range(3)]))
        p = sum(w[k] * softmax(t[k, i].numpy() / 3) for k in range(3))
        total += kl(s[i].numpy(), 3 * np.log(p), 3.0)
    assert value(objective, s, t, f=f).item() == pytest.approx(total / 4, rel=1e-10)


@each("scale", [1e2, 1e4, 1e8])
def test_learned_weights_that_leave_a_teacher_out_have_gradients(scale: float) -> None:
    s, t, f = random(4, 5, seed=9).float(), random(3, 4, 5).float(), random(4, 6, seed=3).float()
    objective = AMTML(list("abc"), "f", temperature=3.0)
    value(objective, s, t, f=f)
    assert objective.importance is not None
    objective.importance.data.fill_(scale)
    s, f = s.requires_grad_(), f.requires_grad_()
    inputs = [s, f, *objective.parameters()]
    grads = torch.autograd.grad(value(objective, s, t, f=f), inputs)
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[0].abs().sum() > 0


@each("name", NAMES)
def test_one_teacher_is_that_teacher(name: str) -> None:
    objective = MAKE[name](["a"], temperature=3.0, weight=1.0, truth_weight=0)
    made, plain = (
        Distiller(mlp(3), {"a": mlp(5, seed=1)}, objective)
        for objective in (objective, 1.0 * Match(losses.kl, source="a", temperature=3.0))
    )
    made.prepare(X, target=Y)
    steps = [distiller(X, target=Y) for distiller in (made, plain)]
    assert steps[0].loss.item() == pytest.approx(steps[1].loss.item(), rel=1e-5)
    for step in steps:
        step.loss.backward()
    for key, grad in gradients(plain.student).items():
        torch.testing.assert_close(gradients(made.student)[key], grad, rtol=1e-4, atol=1e-7)


@each("name", NAMES)
def test_a_teacher_twice_is_that_teacher(name: str) -> None:
    """Weights sum to 1."""
    objective = MAKE[name](["a", "b"], temperature=3.0, weight=1.0, truth_weight=0)
    sources = {"a": mlp(5, seed=1), "b": mlp(5, seed=1)}
    made = Distiller(mlp(3), sources, objective)
    made.prepare(X, target=Y)
    right = losses.kl(mlp(3)(X), mlp(5, seed=1)(X), temperature=3.0)
    assert made(X, target=Y).loss.item() == pytest.approx(right.item(), rel=1e-5)


def distiller(name: str) -> tuple[Distiller, dict[str, torch.nn.Module]]:
    sources: dict[str, torch.nn.Module] = {"a": mlp(5, seed=1), "b": mlp(6, seed=2)}
    made = Distiller(mlp(3), sources, MAKE[name](["a", "b"]))
    made.prepare(X, target=Y)
    return made, sources


@each("name", NAMES)
def test_the_student_learns_and_nothing_of_the_teachers(name: str) -> None:
    made, sources = distiller(name)
    first = made(X, target=Y)
    assert list(first.parts) == made.objective.parts() == ["truth", name]
    assert first.loss.item() == pytest.approx(sum(x.item() for x in first.parts.values()), rel=1e-6)
    first.loss.backward()
    assert len(gradients(made.student)) == len(list(made.student.parameters()))
    assert all(grad.isfinite().all() for grad in gradients(made.student).values())
    assert all(p.grad is None for source in sources.values() for p in source.parameters())
    torch.optim.SGD(made.parameters(), 1e-3).step()
    assert made(X, target=Y).loss < first.loss


@each("name", NAMES)
def test_what_learns_beside_the_student(name: str) -> None:
    made, _ = distiller(name)
    own = {key for key, _ in made.objective.named_parameters()}
    assert {key.rpartition(".")[2] for key in own} == (
        {"latent", "importance"} if name == "amtml" else set()
    )
    for _ in range(2):  # the latent vectors follow once the importance is no longer 0
        made(X, target=Y).loss.backward()
        torch.optim.SGD(made.parameters(), 0.1).step()
    assert all(p.grad is not None and p.grad.any() for p in made.objective.parameters())


@each("name", NAMES[:3])
def test_weights_have_no_gradient(name: str) -> None:
    """The gradient is that of the losses with the weights held."""
    s, t = random(4, 5, seed=9).requires_grad_(), random(2, 4, 5)
    objective = MAKE[name](["a", "b"], temperature=3.0, weight=1.0, truth_weight=0)
    (found,) = torch.autograd.grad(value(objective, s, t), s)
    (rule,) = (m.rule for m in objective.modules() if isinstance(m, Weighed))
    given = {"camkd": {"target": torch.tensor([0, 2, -100, 1])}, "aekd": {"s": s.detach()}}
    w = rule(t, **given.get(name, {}))
    held = sum(losses.kl(s, z, temperature=3.0, weight=v) for z, v in zip(t, w, strict=True))
    (right,) = torch.autograd.grad(held, s)
    torch.testing.assert_close(found, right)


@each("name", NAMES)
@each("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_single_precision_inside(name: str, dtype: torch.dtype) -> None:
    s, t = random(4, 5, seed=9).to(dtype).requires_grad_(), random(2, 4, 5, scale=9.0).to(dtype)
    objective = MAKE[name](["a", "b"], weight=1.0, truth_weight=0)
    found = value(objective, s, t, body=random(4, 6).to(dtype))
    again = value(objective, s.detach().float(), t.float(), body=random(4, 6).to(dtype).float())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(again.item(), rel=1e-6)
    (grad,) = torch.autograd.grad(found, s)
    assert grad.dtype == dtype
    assert grad.isfinite().all()


def test_rows_without_a_label_are_taught_by_all_alike() -> None:
    s, t = random(4, 5, seed=9), random(3, 4, 5)
    unlabelled = torch.full((4,), -100)
    signals = Signals(student={"output": s}, data={"target": unlabelled})
    signals |= {name: {"output": z} for name, z in zip("abc", t, strict=True)}
    (found,) = methods.camkd(list("abc"), weight=1.0, truth_weight=0)(signals).values()
    mean = sum(losses.kl(s, z, temperature=4.0) for z in t) / 3
    torch.testing.assert_close(found, mean)


def test_mixed_labels_are_labels() -> None:
    t = random(3, 4, 5)
    y = torch.tensor([0, 2, 3, 1])
    mixed = torch.nn.functional.one_hot(y, 5).float()
    torch.testing.assert_close(by_labels(t, mixed), by_labels(t, y))


def test_teachers_beyond_all_doubt() -> None:
    """No entropy at all, a class that a teacher excludes, and every teacher wrong."""
    sure = torch.tensor([[[9e3, 0.0]], [[0.0, 9e3]]])
    assert by_entropy(sure).flatten().tolist() == [0.5, 0.5]
    excluded = torch.tensor([[[0.0, -torch.inf]], [[0.0, 0.0]]])
    assert by_labels(excluded, torch.tensor([1])).flatten().tolist() == [0.0, 1.0]
    assert by_labels(excluded[:1].repeat(2, 1, 1), torch.tensor([1])).tolist() == [[0.5], [0.5]]
    assert by_entropy(excluded).isfinite().all()


@each("shape", [(3, 4, 6), (3, 2, 5, 6)])
def test_weights_of_items_of_any_shape(shape: tuple[int, ...]) -> None:
    t = random(*shape)
    target = torch.zeros(shape[1:-1], dtype=torch.long)
    for w in (by_entropy(t), by_labels(t, target)):
        assert w.shape == shape[:-1]
        torch.testing.assert_close(w.sum(0), torch.ones(shape[1:-1], dtype=torch.float64))
        assert w.min() >= 0


def test_an_index_and_a_function_for_each() -> None:
    assert [row.name for row in ROWS] == NAMES
    for row in ROWS:
        objective = MAKE[row.name](["a", "b"], truth_weight=0)
        assert objective.parts() == [row.name]
        assert (("data", "target") in objective.needs()) == ("labels" in row.signal)
        assert {source for source, _ in objective.needs()} >= {"student", "a", "b"}


@each("teachers", ["big", [], ["a", "a"]])
def test_teachers_are_a_list_of_names(teachers: Any) -> None:
    with pytest.raises(LimbeckError, match=r"ebkd needs a list of sources, each once, got "):
        methods.ebkd(teachers)


def test_a_teacher_of_other_classes_is_named() -> None:
    sources = {"a": mlp(), "b": mlp(classes=4)}
    with pytest.raises(LimbeckError, match=r"student 'output' \(6, 3\) against b 'output' \(6, 4"):
        Distiller(mlp(), sources, methods.ebkd(["a", "b"]))(X, target=Y)


def test_learned_weights_are_prepared_first() -> None:
    made = Distiller(mlp(), {"a": mlp()}, methods.amtml(["a"], "body"))
    with pytest.raises(LimbeckError, match=r"amtml: call distiller.prepare\(inputs\) first"):
        made(X, target=Y)


def test_a_source_that_is_missing_is_named() -> None:
    with pytest.raises(LimbeckError, match=r"reads from 'b', but the sources are"):
        Distiller(mlp(), {"a": mlp()}, methods.ebkd(["a", "b"]))
