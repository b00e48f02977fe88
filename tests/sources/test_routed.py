"""One of several teachers: by the sample, or by the step."""

from typing import Any, NamedTuple

import pytest
import torch
from tests.networks import Custom, batch, gradients, mlp
from tests.sources.made import ask, noisy, teacher
from torch import Tensor, nn

from limbeck import Distiller, Drawn, Frozen, Match, Past, Prior, Recorded, Routed, losses, truth
from limbeck.errors import LimbeckError
from limbeck.sources import Source

each = pytest.mark.parametrize
X, Y = batch()
BOTH = truth() + Match(losses.kl, temperature=4) + Match(losses.hint, "stem", "stem.0")
DOMAIN = torch.tensor([1, 0, 2, 1, 1, 0])


class Pair(NamedTuple):
    x: Tensor
    scale: Tensor


# ---- by the sample


@each("place", [0, 1])
def test_all_samples_to_one_teacher_is_that_teacher_bit_for_bit(place: int) -> None:
    teachers = [noisy(1), noisy(2)]
    routed = Routed(dict(zip("ab", teachers, strict=True)))
    domain = torch.full((6,), place)
    made, twin = (Distiller(mlp(), source, BOTH) for source in (routed, teachers[place]))
    made(X, target=Y, domain=domain).loss.backward()
    twin(X, target=Y).loss.backward()
    ours, theirs = gradients(made.student), gradients(twin.student)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_batch_of_one_domain_is_not_copied() -> None:
    seen: list[Tensor] = []
    routed = Routed({"a": mlp(), "b": Custom(lambda m, x: seen.append(x) or x)})
    ask(routed, X, domain=torch.ones(6, dtype=torch.int64))
    assert seen[0] is X


def test_mixed_domains_are_what_each_teacher_says_of_each_sample_alone() -> None:
    teachers = [teacher(seed).double() for seed in (1, 2, 3)]
    routed = Routed(dict(zip("abc", teachers, strict=True)))
    answer = ask(routed, X.double(), ["output", "body"], domain=DOMAIN)
    for row, place in enumerate(DOMAIN.tolist()):
        alone = ask(Frozen(teachers[place]), X[row : row + 1].double(), ["output", "body"])
        for name, value in alone.items():
            torch.testing.assert_close(answer[name][row], value[0], rtol=0, atol=1e-12)


def test_each_teacher_sees_its_own_rows_alone() -> None:
    seen: list[Any] = []
    teachers = {
        name: Custom(lambda m, x, name=name: seen.append((name, x[:, 0].tolist())) or x)
        for name in "abc"
    }
    x = torch.arange(6.0)[:, None]
    answer = ask(Routed(teachers), x, domain=DOMAIN)["output"]
    assert seen == [("a", [1.0, 5.0]), ("b", [0.0, 3.0, 4.0]), ("c", [2.0])]
    assert torch.equal(answer, x)


@each(
    "inputs",
    [
        {"x": X, "scale": torch.tensor(2.0)},
        (X, torch.tensor(2.0)),
        Pair(X, torch.tensor(2.0)),
    ],
)
def test_every_kind_of_inputs_is_divided(inputs: Any) -> None:
    teachers = [Custom(lambda m, x, scale, k=k: scale * x + k) for k in range(3)]
    routed = Routed(dict(zip("abc", teachers, strict=True)))
    answer = ask(routed, inputs, domain=DOMAIN)["output"]
    assert torch.equal(answer, 2 * X + DOMAIN[:, None])


def test_a_list_of_images_is_divided() -> None:
    images = [torch.full((k + 1,), float(k)) for k in range(6)]
    teachers = [Custom(lambda m, xs, k=k: torch.stack([x.sum() for x in xs]) + k) for k in (0, 9)]
    answer = ask(Routed({"a": teachers[0], "b": teachers[1]}), images, domain=DOMAIN % 2)
    sums = torch.tensor([float(image.sum()) for image in images])
    assert torch.equal(answer["output"], sums + 9 * (DOMAIN % 2))


def test_the_data_is_divided_too() -> None:
    """A record by ids and a prior by labels: each reads its own rows."""
    numbered = Custom(lambda m, x: nn.functional.pad(x[:, :1], (0, 2)))
    routed = Routed({"a": Recorded(numbered, samples=9), "b": Prior(3, 0.8)})
    given = {
        "domain": DOMAIN % 2,
        "ids": torch.tensor([3, 1, 4, 0, 5, 8]),
        "view": torch.zeros(6, dtype=torch.int64),
        "target": Y,
    }
    for scale in (1.0, 100.0):  # the second time the record answers
        answer = ask(routed, scale * X, **given)["output"]
        for row in range(6):
            if DOMAIN[row] % 2:
                assert int(answer[row].argmax()) == int(Y[row])
                assert float(answer[row].softmax(0).max()) == pytest.approx(0.8)
            else:
                assert answer[row].tolist() == [float(X[row, 0]), 0.0, 0.0]


def test_domains_that_do_not_exist() -> None:
    routed = Routed({"a": mlp(), "b": mlp(seed=1)})
    with pytest.raises(LimbeckError, match=r"domain must be in 0\.\.1, got \[1, 0, 2, 1, 1, 0\]"):
        ask(routed, X, domain=DOMAIN)
    with pytest.raises(LimbeckError, match=r"a route needs \['domain'\] in the data; pass domain="):
        ask(routed, X)


def test_answers_that_do_not_fit_together() -> None:
    routed = Routed({"day": mlp(), "night": mlp(classes=4)})
    message = r"\['day', 'night'\] must answer 'output' in one shape, got \[\(3,\), \(4,\)\]"
    with pytest.raises(LimbeckError, match=message):
        ask(routed, X, domain=DOMAIN % 2)
    few = Routed({"day": mlp(), "night": Custom(lambda m, x: x.mean(0, keepdim=True))})
    message = r"'night' must answer 'output' with a row for each of its 3 samples, got \(1, 4\)"
    with pytest.raises(LimbeckError, match=message):
        ask(few, X, domain=DOMAIN % 2)


def test_a_source_that_needs_the_student_is_not_routed() -> None:
    with pytest.raises(LimbeckError, match="'b' must be a source that runs before the student"):
        Routed({"a": mlp(), "b": Past(9)})


@each("made", [lambda: Routed({}), lambda: Drawn([], seed=0)])
def test_no_teacher_at_all(made: Any) -> None:
    with pytest.raises(LimbeckError, match="needs at least one source"):
        made()


# ---- by the step


def choices(drawn: Drawn, steps: int = 40) -> list[int]:
    found = []
    for _ in range(steps):
        drawn.advance(0.0)
        found.append(drawn.chosen())
    return found


def drawn(seed: int = 0, ends: int = 3) -> Drawn:
    return Drawn([teacher(k) for k in range(ends)], seed=seed)


def test_the_choice_depends_on_the_seed_and_the_step_alone() -> None:
    torch.manual_seed(0)
    first = choices(drawn())
    torch.manual_seed(1)
    assert choices(drawn()) == first
    assert choices(drawn(seed=1)) != first
    assert [first.count(k) > 5 for k in range(3)] == [True] * 3
    state = drawn().state_dict()
    later = drawn()
    later.load_state_dict(state | {"step": torch.tensor(17)})
    assert choices(later, 23) == first[17:]


def test_one_teacher_runs_in_a_step_and_all_pieces_have_the_same() -> None:
    ran: list[int] = []
    teachers: list[nn.Module | Source] = [
        Custom(lambda m, x, k=k: ran.append(k) or x[:, :3] + k) for k in range(3)
    ]
    source = Drawn(teachers, seed=0)
    made = Distiller(mlp(), source, 1.0 * Match(losses.kl))
    for step in range(5):
        made.advance(step / 4)
        for rows in (slice(0, 3), slice(3, 6)):
            said = made.gather(X[rows], {})[1]["teacher"]["output"]
            assert torch.equal(said, X[rows, :3] + source.chosen())
    assert ran == [k for k in choices(drawn(), 5) for _ in (0, 1)]
    assert len(set(ran)) > 1
