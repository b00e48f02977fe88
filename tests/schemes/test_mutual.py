"""Students that teach one another, and what each of them may not notice."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.networks import Convs, Custom, Mlp, Noisy, batch, gradients, hooks, mlp
from torch import Tensor, nn

from limbeck import Balance, Distiller, Frozen, Match, Mutual, Reader, Term, losses, truth
from limbeck.checkpoint import save_weights
from limbeck.errors import LimbeckError
from limbeck.projectors import linear
from limbeck.schedules import Linear
from limbeck.schemes import peers

X, Y = batch()
KL = Match(losses.kl, source="peers", temperature=2)


def make(students: int = 2, **options: Any) -> Mutual:
    """Networks of different widths that learn from labels and from one another."""
    nets = {name: mlp(4 + k, seed=k) for k, name in zip(range(students), "abcd", strict=False)}
    return Mutual(nets, 0.5 * truth() + 0.5 * KL, **options)


def hinted(seed: int = 0) -> Mutual:
    """Three students with a projector for each pair, one of them with dropout."""
    hint = Match(losses.hint, "body", source="peers", project=linear)
    nets = {"a": mlp(4), "b": mlp(6, seed=1), "c": Reader(Noisy(), names={"body": "stem"})}
    mutual = Mutual(nets, truth() + KL + 0.1 * hint)
    torch.manual_seed(seed)
    mutual.prepare(X, target=Y)
    return mutual


def kl(s: Tensor, t: Tensor, temperature: float = 2.0) -> Tensor:
    """KL of softened logits, times T^2, in words of torch alone."""
    log_q, log_p = (s / temperature).log_softmax(-1), (t.detach() / temperature).log_softmax(-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def train(mutual: nn.Module, optimizers: list[torch.optim.Optimizer], seeds: range) -> None:
    for seed in seeds:
        torch.manual_seed(seed)
        x, y = batch(seed=seed)
        mutual(x, target=y).loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- the loss


@pytest.mark.parametrize("students", [2, 3, 4])
def test_each_learns_from_the_labels_and_from_the_mean_of_its_peers_divergences(
    students: int,
) -> None:
    mutual = make(students)
    step = mutual(X, target=Y)
    z = {name: net(X) for name, net in mutual.students.items()}
    expected = [
        0.5 * F.cross_entropy(z[a], Y)
        + 0.5 * torch.stack([kl(z[a], z[b]) for b in z if b != a]).mean()
        for a in z
    ]
    torch.testing.assert_close(step.loss, torch.stack(expected).sum())
    torch.testing.assert_close(torch.stack(list(step.parts.values())).sum(), step.loss.detach())
    assert all(torch.equal(step.output[name], z[name]) for name in z)


def test_parts_say_who_teaches_whom() -> None:
    assert list(make(2)(X, target=Y).parts) == ["a/truth", "a/kl", "b/truth", "b/kl"]
    assert list(make(3)(X, target=Y).parts)[:4] == ["a/truth", "a/kl:b", "a/kl:c", "b/truth"]
    assert list(make(3, teach="mean")(X, target=Y).parts)[:3] == ["a/truth", "a/kl", "b/truth"]


def test_a_part_of_the_peers_keeps_its_source_where_another_has_its_name() -> None:
    mutual = Mutual({"a": mlp(), "b": mlp(seed=1)}, truth(name="kl") + KL)
    assert list(mutual(X, target=Y).parts) == ["a/kl", "a/kl:peers", "b/kl", "b/kl:peers"]


@pytest.mark.parametrize("teach", ["each", "mean", "naive", "linear", "minlogit", "general"])
def test_twins_have_nothing_to_teach(teach: Any) -> None:
    mutual = Mutual({name: mlp().double() for name in "abc"}, truth() + KL, teach=teach)
    step = mutual(X.double(), target=Y)
    taught = [float(part) for name, part in step.parts.items() if "/kl" in name]
    assert taught == pytest.approx([0] * len(taught), abs=1e-14)
    step.loss.backward()
    alone = mlp().double()
    F.cross_entropy(alone(X.double()), Y).backward()
    for student in mutual.students.values():
        torch.testing.assert_close(gradients(student), gradients(alone), rtol=0, atol=1e-14)


def test_every_student_runs_once_a_step_whatever_is_read_of_it() -> None:
    students, calls = {name: Convs() for name in "abc"}, []
    for name, student in students.items():
        student.register_forward_hook(lambda *_, name=name: calls.append(name))
    layer = {"source": "peers", "student": "act"}
    matches = KL + Match(losses.hint, **layer) + Match(losses.attention, **layer)
    mutual = Mutual(students, truth() + matches)
    mutual(torch.rand(2, 3, 8, 8), target=Y[:2]).loss.backward()
    assert sorted(calls) == ["a", "b", "c"]
    assert [int(s.norm.num_batches_tracked) for s in students.values()] == [1, 1, 1]


@pytest.mark.parametrize("teach", ["each", "mean", "naive", "linear", "minlogit", "general"])
def test_no_gradient_of_a_student_reaches_its_peers(teach: Any) -> None:
    mutual = make(3, teach=teach)
    share = {name: float(name.startswith("a/")) for name in mutual.items(6, target=Y)}
    mutual(X, target=Y, share=share).loss.backward()
    assert all(bool(g.any()) for g in gradients(mutual.students["a"]).values())
    for name in ("b", "c"):
        assert not any(bool(g.any()) for g in gradients(mutual.students[name]).values())


def test_a_student_learns_as_from_frozen_copies_of_its_peers() -> None:
    mutual = hinted().eval()  # no dropout, so that both see the same
    frozen = {name: copy.deepcopy(net) for name, net in mutual.students.items()}
    own = copy.deepcopy(mutual.distiller("a").objective)
    teachers = {"b": frozen["b"], "c": Frozen(frozen["c"], names={"body": "stem"})}
    alone = Distiller(frozen["a"], teachers, own)
    alone(X, target=Y).loss.backward()
    mutual(X, target=Y).loss.backward()
    torch.testing.assert_close(gradients(mutual.distiller("a")), gradients(alone))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_one_optimizer_for_all_steps_as_one_for_each(kind: Callable[..., Any]) -> None:
    together, apart = hinted(), hinted()
    one = kind(together.parameters(), lr=0.1)
    several = [kind(apart.distiller(name).parameters(), lr=0.1) for name in "abc"]
    start = copy.deepcopy(together.state_dict())
    train(together, [one], range(3))
    train(apart, several, range(3))
    assert same(together.state_dict(), apart.state_dict())
    assert not same(together.state_dict(), start)


# ---- who teaches


def combined(rule: str, z: dict[str, Tensor], taught: str) -> Tensor:
    """What the peers of a student say, from the rules by themselves."""
    logits = torch.stack([x.detach() for x in z.values()])
    if rule == "mean":
        return (
            torch.stack([x.detach() / 2 for n, x in z.items() if n != taught])
            .softmax(-1)
            .mean(0)
            .log()
            * 2
        )
    if rule == "linear":
        return peers.linear(logits, peers.fitted(logits, Y))
    if rule == "general":
        return 2 * (logits / 2).softmax(-1).mean(0).log()
    return {"naive": peers.naive, "minlogit": peers.minlogit}[rule](logits, Y)


@pytest.mark.parametrize("rule", ["mean", "naive", "linear", "minlogit", "general"])
def test_a_rule_makes_the_target_of_each_student(rule: Any) -> None:
    mutual = make(3, teach=rule, temperature=2)
    step = mutual(X, target=Y)
    for name, z in step.output.items():
        expected = 0.5 * kl(z, combined(rule, step.output, name))
        torch.testing.assert_close(step.parts[f"{name}/kl"], expected.detach())


@pytest.mark.parametrize("rule", ["naive", "linear", "minlogit"])
def test_rows_without_a_label_are_taught_by_the_mean_and_do_not_count(rule: Any) -> None:
    y = Y.clone()
    y[:2] = -100
    mutual = make(3, teach=rule)
    said = {name: {"output": net(X).detach()} for name, net in mutual.students.items()}
    answers = mutual.answers(said, {"target": y})
    z = torch.stack([theirs["output"] for theirs in said.values()])
    for answer in answers.values():
        if rule == "linear":
            w = peers.fitted(z[:, 2:], Y[2:])
            torch.testing.assert_close(answer["output"], peers.linear(z, w))
            continue
        torch.testing.assert_close(answer["output"][:2].softmax(-1), z[:, :2].softmax(-1).mean(0))
        by_label = {"naive": peers.naive, "minlogit": peers.minlogit}[rule](z[:, 2:], Y[2:])
        assert torch.equal(answer["output"][2:], by_label)
    unlabelled = mutual(X, target=torch.full_like(Y, -100))
    assert all(part.isfinite() for part in unlabelled.parts.values())


@pytest.mark.parametrize("rule", ["mean", "naive", "linear", "minlogit", "general"])
def test_maps_are_combined_as_their_pixels_are(rule: Any) -> None:
    z = {
        name: torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(ord(name)))
        for name in "ab"
    }
    y = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    nets = {name: nn.Identity() for name in z}
    pixels = {name: x.movedim(1, -1).reshape(-1, 3) for name, x in z.items()}
    maps = Mutual(nets, Match(losses.kl, source="peers", axis=1), teach=rule, axis=1)
    rows = Mutual({n: nn.Identity() for n in z}, Match(losses.kl, source="peers"), teach=rule)
    with torch.no_grad():
        torch.testing.assert_close(maps(z, target=y).parts, rows(pixels, target=y.flatten()).parts)


def test_held_out_answers_weigh_the_students() -> None:
    mutual = make(3, teach="general")
    x, y = batch(40, seed=5)
    y[::4] = -100
    before = copy.deepcopy(mutual.state_dict())
    weights = mutual.weigh((x[rows], y[rows]) for rows in torch.arange(40).chunk(3))
    z = torch.stack([net(x[y >= 0]).detach() for net in mutual.students.values()])
    expected = peers.balanced(peers.covariance(z, y[y >= 0]))
    assert list(weights.values()) == pytest.approx(expected.tolist())
    assert list(weights) == ["a", "b", "c"]
    step = mutual(X, target=Y)
    answer = peers.mixed(torch.stack(list(step.output.values())), expected)
    torch.testing.assert_close(step.parts["a/kl"], 0.5 * kl(step.output["a"], answer).detach())
    changed = [n for n, value in mutual.state_dict().items() if not torch.equal(value, before[n])]
    assert changed == ["teaching.weights"]


def test_weighing_leaves_batch_statistics_and_dropout_alone() -> None:
    mutual = Mutual({"a": Noisy(), "b": Noisy()}, truth() + KL, teach="general")
    before = copy.deepcopy(mutual.students["a"].state_dict())
    assert mutual.weigh([(X, Y)]) == mutual.weigh([(X, Y)])
    assert same(mutual.students["a"].state_dict(), before)
    assert mutual.students["a"].training


# ---- layers, names, inputs


def test_every_pair_has_a_projector_of_its_own() -> None:
    mutual = hinted()
    shapes = {
        name.removeprefix("distillers."): tuple(value.shape)
        for name, value in mutual.named_parameters()
        if name.endswith("projector.weight")
    }
    widths = {"a": 4, "b": 6, "c": 8}
    pairs = [(s, t) for s in "abc" for t in "abc" if s != t]
    assert list(shapes.values()) == [(widths[t], widths[s]) for s, t in pairs]
    step = mutual(X, target=Y)
    assert {"a/hint[body]:b", "a/hint[body]:c", "c/hint[body]:a"} <= step.parts.keys()
    before = copy.deepcopy(mutual.state_dict())
    train(mutual, [torch.optim.SGD(mutual.parameters(), 0.1)], range(1))
    after = mutual.state_dict()
    assert not any(torch.equal(after[f"distillers.{n}"], before[f"distillers.{n}"]) for n in shapes)


def test_projectors_of_alike_students_start_apart() -> None:
    hint = Match(losses.hint, "body", source="peers", project=linear)
    mutual = Mutual({name: mlp() for name in "ab"}, truth() + hint)
    mutual.prepare(X, target=Y)
    a, b = (p for n, p in mutual.named_parameters() if n.endswith("projector.weight"))
    assert not torch.equal(a, b)


def test_a_layer_is_measured_against_the_peers_own() -> None:
    hint = Match(losses.hint, "body", source="peers")
    mutual = Mutual({"a": mlp(), "b": mlp(seed=1)}, truth() + hint)
    step = mutual(X, target=Y)
    body = [net.body(net.stem(X).relu()) for net in mutual.students.values()]
    expected = (body[0] - body[1]).square().mean().detach()
    torch.testing.assert_close(step.parts["a/hint[body]"], expected)
    torch.testing.assert_close(step.parts["b/hint[body]"], expected)


def test_students_may_have_objectives_of_their_own() -> None:
    objectives = {"a": truth() + Match(losses.kl, source="b"), "b": 2.0 * truth(), "c": KL}
    mutual = Mutual({name: mlp(seed=k) for k, name in enumerate("abc")}, objectives, teach="mean")
    parts = mutual(X, target=Y).parts
    assert list(parts) == ["a/truth", "a/kl:b", "b/truth", "c/kl"]
    z = {name: net(X) for name, net in mutual.students.items()}
    torch.testing.assert_close(parts["a/kl:b"], kl(z["a"], z["b"], 1.0).detach())
    torch.testing.assert_close(parts["b/truth"], 2 * F.cross_entropy(z["b"], Y).detach())


def test_the_objective_that_was_given_is_copied() -> None:
    objective = truth() + Match(losses.hint, "body", source="peers", project=linear)
    mutual = Mutual({"a": mlp(4), "b": mlp(5)}, objective)
    mutual.prepare(X, target=Y)
    assert not list(objective.parameters())


def test_each_student_may_see_inputs_of_its_own() -> None:
    mutual = make(2)
    views = {"a": X, "b": X + 1}
    step = mutual(views, target=Y)
    z = {name: net(views[name]) for name, net in mutual.students.items()}
    torch.testing.assert_close(step.parts["a/kl"], 0.5 * kl(z["a"], z["b"]).detach())
    with pytest.raises(LimbeckError, match=r"inputs by name must be those of \['a', 'b'\]"):
        mutual({"a": X}, target=Y)


def test_a_mapping_that_is_one_input_reaches_every_student_whole() -> None:
    class Scaled(Mlp):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return super().forward(x * scale)

    mutual = Mutual({"a": Scaled(), "b": Scaled()}, truth() + KL)
    step = mutual({"x": X, "scale": torch.tensor(2.0)}, target=Y)
    assert torch.equal(step.output["a"], Mlp.forward(mutual.students["a"], 2 * X))


def test_readers_adapt_the_inputs_of_their_student_alone() -> None:
    nets = {"a": Reader(mlp(), inputs=lambda x: 2 * x), "b": mlp(seed=1)}
    step = Mutual(nets, truth() + KL)(X, target=Y)
    assert torch.equal(step.output["a"], mlp()(2 * X))
    assert torch.equal(step.output["b"], mlp(seed=1)(X))


# ---- as a distiller does


def test_preparing_leaves_no_trace() -> None:
    students = {"a": Convs(4).train(), "b": Convs(6).train()}
    students["a"].norm.eval()
    hint = Match(losses.attention, "act", source="peers")
    mutual = Mutual(students, truth() + KL + hint)
    before = copy.deepcopy(mutual.state_dict())
    modes = [module.training for module in mutual.modules()]
    state = torch.get_rng_state()
    mutual.prepare(torch.rand(2, 3, 8, 8, generator=torch.Generator()), target=Y[:2])
    assert torch.equal(torch.get_rng_state(), state)
    assert same(mutual.state_dict(), before)
    assert [module.training for module in mutual.modules()] == modes
    assert [hooks(student) for student in students.values()] == [0, 0]
    assert all(parameter.grad is None for parameter in mutual.parameters())


def test_balancing_sees_the_batch_as_a_step_does_and_leaves_no_trace() -> None:
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mutual = Mutual({"a": Convs(4), "b": Convs(6)}, truth() + Balance(0.5) * KL)
    before = copy.deepcopy(mutual.students["a"].state_dict())
    mutual.prepare(x, target=Y)
    assert same(mutual.students["a"].state_dict(), before)
    parts = mutual(x, target=Y).parts
    assert float(parts["b/kl"]) == pytest.approx(0.5 * float(parts["b/truth"]))


def test_projectors_are_drawn_from_the_seed() -> None:
    first, again, other = (
        {n: v for n, v in m.state_dict().items() if "projector" in n}
        for m in (hinted(), hinted(), hinted(seed=1))
    )
    assert same(first, again)
    assert not same(first, other)


def test_terms_are_balanced_within_each_student() -> None:
    nets = {"a": mlp(4), "b": mlp(5, seed=1), "c": mlp(6, seed=2)}
    mutual = Mutual(nets, truth() + Balance(0.5) * KL)
    mutual.prepare(X, target=Y)
    parts = mutual(X, target=Y).parts
    for name in "abc":
        taught = [float(v) for k, v in parts.items() if k.startswith(f"{name}/kl")]
        assert taught == pytest.approx([0.25 * float(parts[f"{name}/truth"])] * 2)


def test_schedules_move_all_students() -> None:
    mutual = Mutual({"a": mlp(), "b": mlp(seed=1)}, truth() + Linear(0, 1) * KL)
    with pytest.raises(LimbeckError, match="advance was never called"):
        mutual(X, target=Y)
    mutual.advance(0.0)
    assert mutual(X, target=Y).parts["b/kl"] == 0
    mutual.advance(0.5)
    half = mutual(X, target=Y).parts
    mutual.advance(1.0)
    whole = mutual(X, target=Y).parts
    for name in ("a/kl", "b/kl"):
        torch.testing.assert_close(2 * half[name], whole[name])


@pytest.mark.parametrize("teach", ["each", "mean", "naive", "minlogit", "general"])
def test_shares_make_pieces_equal_the_undivided_batch(teach: Any) -> None:
    mutual = make(3, teach=teach).double()
    x, y = batch(12)
    x = x.double()
    y[[0, 1, 2, 3, 5, 9]] = -100
    mutual(x, target=y).loss.backward()
    expected = gradients(mutual)
    mutual.zero_grad()
    total = mutual.items(12, target=y)
    assert {int(total["a/truth"]), int(total["c/truth"])} == {6}
    for rows in (slice(0, 5), slice(5, 12)):
        items = mutual.items(len(x[rows]), target=y[rows])
        share = {name: int(items[name]) / int(total[name]) for name in total}
        mutual(x[rows], target=y[rows], share=share).loss.backward()
    torch.testing.assert_close(gradients(mutual), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("teach", ["each", "linear", "minlogit", "general"])
def test_losses_are_float32_under_autocast(teach: Any) -> None:
    mutual = make(2, teach=teach)
    full = mutual(X, target=Y)
    with torch.autocast("cpu", torch.bfloat16):
        step = mutual(X, target=Y)
    assert {output.dtype for output in step.output.values()} == {torch.bfloat16}
    assert {step.loss.dtype, *(part.dtype for part in step.parts.values())} == {torch.float32}
    torch.testing.assert_close(step.loss, full.loss, rtol=0.03, atol=0)
    step.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(mutual).values())


def test_a_step_without_gradient_is_an_evaluation() -> None:
    mutual = make(2)
    with torch.no_grad():
        step = mutual(X, target=Y)
    assert not step.loss.requires_grad
    assert torch.equal(step.loss, mutual(X, target=Y).loss)


def test_copies_and_pickles_are_whole_and_apart() -> None:
    mutual = hinted().eval()
    for twin in (copy.deepcopy(mutual), pickle.loads(pickle.dumps(mutual))):
        assert torch.equal(twin(X, target=Y).loss, mutual(X, target=Y).loss)
        before = copy.deepcopy(mutual.state_dict())
        train(twin, [torch.optim.SGD(twin.parameters(), 0.1)], range(1))
        assert same(mutual.state_dict(), before)
        assert not same(twin.state_dict(), before)
        torch.testing.assert_close(twin(X, target=Y).parts["a/kl:b"], expected_of(twin, "a", "b"))


def expected_of(mutual: Mutual, a: str, b: str) -> Tensor:
    """The part of `a` that `b` teaches, of three."""
    return kl(mutual.students[a](X), mutual.students[b](X)).detach() / 2


def test_a_resumed_training_ends_with_the_same_bits() -> None:
    straight, first, second = hinted(), hinted(), hinted(seed=7)
    optimizers = [torch.optim.Adam(m.parameters(), 0.01) for m in (straight, first, second)]
    train(straight, optimizers[:1], range(4))
    train(first, optimizers[1:2], range(2))
    state, moments = pickle.loads(pickle.dumps((first.state_dict(), optimizers[1].state_dict())))
    second.load_state_dict(state)
    optimizers[2].load_state_dict(moments)
    train(second, optimizers[2:], range(2, 4))
    assert same(second.state_dict(), straight.state_dict())


def test_every_student_is_saved_as_it_was_before(tmp_path: Any) -> None:
    mutual = hinted()
    train(mutual, [torch.optim.SGD(mutual.parameters(), 0.1)], range(2))
    fresh = {"a": mlp(4), "b": mlp(6), "c": Noisy()}
    for name, student in mutual.students.items():
        assert hooks(student) == 0
        save_weights(student, tmp_path / name)
        fresh[name].load_state_dict(load_file(tmp_path / name), strict=True)
        assert torch.equal(fresh[name].eval()(X), student.eval()(X))
        program = torch.export.export(student, (X,)).module()
        torch.testing.assert_close(program(X), student(X))


def test_nothing_that_was_said_is_kept() -> None:
    mutual = make(3, teach="minlogit")

    def kept() -> Iterator[Any]:
        for distiller in mutual.members():
            for peer in distiller.sources.values():
                yield from peer.said

    mutual(X, target=Y)
    assert list(kept()) == []
    with pytest.raises(LimbeckError, match="labels must be class indices"):
        mutual(X, target=Y.float())
    with pytest.raises(RuntimeError):
        mutual.prepare(X[:, :2], target=Y)
    assert list(kept()) == []


# ---- refusals


@pytest.mark.parametrize(
    ("students", "message"),
    [
        (lambda: {"a": mlp()}, r"needs at least two students, got \['a'\]"),
        (lambda: dict.fromkeys("ab", mlp()), "'a' and 'b' are one module; pass a copy"),
        (lambda: {"a": mlp(), "peers": mlp()}, "got 'peers'"),
        (lambda: {"a": mlp(), "b.c": mlp()}, "got 'b.c'"),
        (lambda: {"a": mlp(), "b/c": mlp()}, "got 'b/c'"),
        (lambda: {"a": mlp(), "items": mlp()}, "got 'items'"),
    ],
)
def test_what_is_no_group_is_refused(students: Callable[[], Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        Mutual(students(), truth() + KL)


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (truth() + Match(losses.kl, source="peer"), {}, "'peer', but .*; did you mean 'peers'"),
        (truth() + Match(losses.kl), {}, "the objective of 'a' reads from 'teacher'"),
        (truth() + Match(losses.kl, source="a"), {}, "the objective of 'a' reads from 'a'"),
        (Match(losses.hint, "bodi", source="peers"), {}, "student 'a': .*'bodi'"),
        (Match(losses.hint, "body", "sten", source="peers"), {}, "as a peer, 'b': .*'sten'"),
        ({"a": truth()}, {}, r"objectives by name must be those of \['a', 'b'\]"),
        (truth() + KL, {"teach": "median"}, "teach must be 'each' or one of"),
        (truth() + KL + Match(losses.hint, "body", source="peers"), {"teach": "general"}, "one s"),
        (1.0 * truth(), {"teach": "general"}, r"weighs one signal of the peers, got \[\]"),
    ],
)
def test_an_objective_that_cannot_be_read_is_refused(
    objective: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LimbeckError, match=message):
        Mutual({"a": mlp(), "b": mlp(seed=1)}, objective, **options)


def test_data_that_is_missing_is_named() -> None:
    for mutual in (make(2), Mutual({"a": mlp(), "b": mlp()}, 1.0 * KL, teach="naive")):
        with pytest.raises(LimbeckError, match=r"reads? 'target' from the data, got \['targets'\]"):
            mutual(X, targets=Y)


def test_rules_refuse_logits_that_differ_in_shape_and_mixed_labels() -> None:
    nets = {"a": mlp(), "b": mlp(classes=4)}
    with pytest.raises(LimbeckError, match=r"'mean' combines logits of one shape.*'b': \(6, 4\)"):
        Mutual(nets, 1.0 * KL, teach="mean")(X)
    with pytest.raises(LimbeckError, match=r"labels must be class indices of shape \(6,\)"):
        make(teach="minlogit")(X, target=F.one_hot(Y, 3).float())


def test_only_general_weighs() -> None:
    with pytest.raises(LimbeckError, match="only teach='general' has weights"):
        make(teach="mean").weigh([(X, Y)])
    with pytest.raises(LimbeckError, match="at least one item with a label"):
        make(teach="general").weigh([(X, torch.full_like(Y, -100))])


def test_a_match_with_a_frozen_layer_is_refused() -> None:
    frozen = mlp()
    frozen.stem.requires_grad_(False)
    hint = Match(losses.hint, "stem", source="peers")
    mutual = Mutual({"a": mlp(seed=1), "b": frozen}, truth() + hint)
    with pytest.raises(LimbeckError, match=r"hint\[stem\]:peers: no gradient reaches the student"):
        mutual(X, target=Y)


def test_a_term_reads_its_peers_too_and_moves_none() -> None:
    def gap(s: Tensor, t: Tensor) -> Tensor:
        return (s - t).square().mean()

    term = Term(gap, given={"s": "student:output", "t": "peers:output"})
    mutual = Mutual({name: mlp(seed=k) for k, name in enumerate("abc")}, truth() + term)
    step = mutual(X, target=Y)
    z = step.output
    torch.testing.assert_close(step.parts["a/gap:c"], gap(z["a"], z["c"]).detach() / 2)
    share = {name: float(name.startswith("a/gap")) for name in mutual.items(6, target=Y)}
    mutual(X, target=Y, share=share).loss.backward()
    assert gradients(mutual.students["a"])["stem.weight"].any()
    assert not any(g.any() for n in "bc" for g in gradients(mutual.students[n]).values())


def test_a_compiled_student_must_be_prepared_where_only_a_peer_reads_a_layer() -> None:
    def make() -> Mutual:
        objectives = {"a": 1.0 * truth(), "b": truth() + Match(losses.hint, "body", source="a")}
        return Mutual({"a": mlp(), "b": mlp(seed=1)}, objectives)

    mutual = make()
    mutual.students["a"].compile(backend="eager")
    with pytest.raises(LimbeckError, match="call distiller"):
        mutual(X, target=Y)
    plain, compiled = make(), make()
    compiled.prepare(X, target=Y)
    compiled.students["a"].compile(backend="eager")
    torch.testing.assert_close(compiled(X, target=Y).loss, plain(X, target=Y).loss)


def test_an_overwritten_tap_is_found_when_preparing() -> None:
    net = Custom(lambda m, x: m.head(m.norm(x).relu_()), norm=nn.BatchNorm1d(4), head=mlp())
    other = Custom(lambda m, x: m.head(m.norm(x)), norm=nn.BatchNorm1d(4), head=mlp(seed=1))
    hint = Match(losses.hint, "norm", source="peers")
    with pytest.raises(LimbeckError, match="tap 'norm' was overwritten"):
        Mutual({"a": other, "b": net}, truth() + hint).prepare(X, target=Y)
