"""What the student said before."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from tests.networks import batch, mlp
from tests.sources.made import SAMPLES, data, same, weights
from torch import Tensor
from torch.nn import functional as F

from limbeck import Distiller, Match, Objective, Past, Term, losses, truth
from limbeck.errors import LimbeckError
from limbeck.schedules import Linear
from limbeck.signals import Batch, Signals

each = pytest.mark.parametrize
SOFT = Match(losses.kl, source="past")


def made(past: Past | None = None, objective: Objective | None = None) -> Distiller:
    past = Past(SAMPLES) if past is None else past
    return Distiller(mlp().double(), {"past": past}, objective or truth() + SOFT)


def said(distiller: Distiller, x: Tensor, ids: Sequence[int]) -> Mapping[str, Tensor]:
    """What the past answers to an evaluation."""
    data = {"ids": torch.tensor(ids)}
    with torch.no_grad():
        student = {"output": distiller.student(x.double())}
        signals = Signals(data=data, student=student)
        return distiller.sources["past"](Batch(x, data), signals, ["output", "known", "recent"])


@each(("dtype", "bound"), [(torch.float16, 2.0**-11), (torch.float64, 0.0)])
def test_it_answers_as_a_dictionary_kept_by_hand(dtype: torch.dtype, bound: float) -> None:
    """Two epochs and a half in shuffled order; float16 rounds by at most half of its last bit."""
    distiller = made(Past(SAMPLES, dtype))
    optimizer = torch.optim.SGD(distiller.parameters(), 0.3)
    memory: dict[int, Tensor] = {}
    for step in range(5):
        distiller.advance(step / 4)
        x, given = data(step)
        output, signals = distiller.gather(x.double(), given)
        answer = signals["past"]["output"]
        for row, sample in enumerate(given["ids"].tolist()):
            if sample not in memory:
                assert torch.equal(answer[row], output[row])
                continue
            expected = memory[sample]
            assert torch.equal(answer[row], expected.to(dtype).double())
            assert bool(((answer[row] - expected).abs() <= bound * expected.abs()).all())
            assert not torch.equal(answer[row], output[row])
        memory |= dict(zip(given["ids"].tolist(), output.detach(), strict=True))
        distiller.score(output, signals).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(memory) == SAMPLES


def test_known_and_recent() -> None:
    distiller = made()
    x = torch.ones(2, 4)
    marks = []
    for ids in ([0, 1], [1, 2], [2, 0], [2, 0]):
        distiller.advance(0.0)
        answer = said(distiller, x, ids)
        marks.append((answer["known"].tolist(), answer["recent"].tolist()))
        distiller(x.double(), target=torch.tensor([0, 1]), ids=torch.tensor(ids))
    assert marks == [
        ([False, False], [False, False]),
        ([True, False], [True, False]),
        ([True, True], [True, False]),
        ([True, True], [True, True]),
    ]


def test_evaluation_leaves_no_trace() -> None:
    distiller = made()
    x, given = data(0)
    distiller.advance(0.0)
    distiller(x.double(), **given)
    distiller.advance(0.1)
    before = distiller.sources["past"].state_dict()
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            distiller(x.double() + 1, **given)
    distiller.advance(0.2)
    after = distiller.sources["past"].state_dict()
    before["step"] += 1
    assert same(before, after)


def test_what_a_step_said_is_answered_from_the_next_one_on() -> None:
    """Two pieces with a sample in common are answered as the undivided batch is."""
    ids = [4, 7, 7, 4]
    x, y = batch(4)
    whole, pieces = made(Past(SAMPLES, torch.float64)), made(Past(SAMPLES, torch.float64))
    for step in range(3):
        whole.advance(step / 2)
        pieces.advance(step / 2)
        expected = whole.gather(x.double() + step, {"ids": torch.tensor(ids), "target": y})[1]
        for rows in (slice(0, 2), slice(2, 4)):
            given = {"ids": torch.tensor(ids[rows]), "target": y[rows]}
            found = pieces.gather(x[rows].double() + step, given)[1]
            torch.testing.assert_close(found["past"]["output"], expected["past"]["output"][rows])
    states = [distiller.sources["past"].state_dict() for distiller in (whole, pieces)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)


def test_a_sample_that_comes_twice_is_remembered_as_the_mean() -> None:
    distiller = made(Past(SAMPLES, torch.float64))
    x = torch.stack([torch.ones(4), torch.full((4,), 2.0), torch.full((4,), 4.0)]).double()
    distiller.advance(0.0)
    output = distiller(x, target=torch.tensor([0, 1, 2]), ids=torch.tensor([5, 3, 5])).output
    distiller.advance(0.1)
    answer = said(distiller, torch.zeros(2, 4), [5, 3])["output"]
    torch.testing.assert_close(answer[0], (output[0] + output[2]) / 2)
    assert torch.equal(answer[1], output[1].detach())


@each("ids", [[0, 12], [-1, 0]])
def test_ids_out_of_range(ids: list[int]) -> None:
    with pytest.raises(LimbeckError, match=r"ids must be in 0\.\.11, got \["):
        said(made(), torch.ones(2, 4), ids)


def test_a_past_needs_ids_a_row_for_each_and_one_shape() -> None:
    distiller = made()
    distiller.advance(0.0)
    x, y = batch(2)
    with pytest.raises(LimbeckError, match=r"a past needs \['ids'\] in the data; pass ids="):
        distiller(x.double(), target=y)
    with pytest.raises(LimbeckError, match=r"'output' must be \(3, 3\) for 3 ids, got \(2, 3\)"):
        distiller(x.double(), target=y, ids=torch.arange(3))
    distiller(x.double(), target=y, ids=torch.arange(2))
    distiller.advance(0.1)
    other = Distiller(mlp(classes=4).double(), {"past": distiller.sources["past"]}, 1.0 * SOFT)
    with pytest.raises(LimbeckError, match=r"'output' must be \(2, 3\) for 2 ids, got \(2, 4\)"):
        said(other, x, [0, 1])


def test_what_float16_cannot_hold_is_held_at_its_end() -> None:
    distiller = made()
    distiller.student.head.bias.data = torch.tensor([1e6, -1e6, 0.25]).double()
    distiller.student.head.weight.data.zero_()
    distiller.advance(0.0)
    distiller(torch.ones(1, 4).double(), target=torch.tensor([0]), ids=torch.tensor([2]))
    distiller.advance(0.1)
    answer = said(distiller, torch.ones(1, 4), [2])["output"]
    assert answer.tolist() == [[65504.0, -65504.0, 0.25]]


def test_masked_classes_stay_masked() -> None:
    distiller = made()
    distiller.student.head.bias.data = torch.tensor([-float("inf"), 1.0, 0.0]).double()
    distiller.advance(0.0)
    distiller(torch.ones(1, 4).double(), target=torch.tensor([1]), ids=torch.tensor([2]))
    distiller.advance(0.1)
    assert said(distiller, torch.ones(1, 4), [2])["output"][0, 0] == -float("inf")


def test_what_it_takes() -> None:
    past = Past(SAMPLES)
    distiller = made(past)
    distiller.advance(0.0)
    x, given = data(0)
    distiller(x.double(), **given)
    distiller.advance(0.1)
    held = [past.seen, *past.records.values()]
    assert sum(tensor.nbytes for tensor in held) == Past.bytes(SAMPLES, 3) == 12 * (3 * 2 + 8)
    assert Past.bytes(1_000, 10, torch.float32) == 48_000


def test_a_signal_that_comes_later_is_not_answered_with_zeros() -> None:
    """Samples whose output alone was remembered are unknown once features are remembered too."""
    past = Past(SAMPLES, torch.float64)
    first = made(past)
    first.advance(0.0)
    x, given = data(0)
    first(x.double(), **given)
    hint = Match(losses.hint, "body", source="past")
    both = Distiller(first.student, {"past": past}, SOFT + hint)
    for step in (1, 0):  # other samples, then those of before
        both.advance(0.1)
        x, given = data(step)
        _, signals = both.gather(x.double() + 1, given)
        assert torch.equal(signals["past"]["body"], signals["student"]["body"])
    assert not bool(signals["past"]["known"].any())


def test_another_number_of_samples_is_not_resumed() -> None:
    with pytest.raises(LimbeckError, match="the past must be one of 12 samples, got 9"):
        Past(SAMPLES).load_state_dict(Past(9).state_dict())


# ---- methods


def test_ps_kd_is_the_loop_written_by_hand() -> None:
    """alpha grows from 0 to 0.8; the targets mix labels with the last epoch's softmax.

    A schedule's value is in single precision, hence the tolerance.
    """
    steps, rate = 6, 0.3
    soft = Match(
        losses.ps_kd,
        source="past",
        given={"target": "data:target"},
        alpha=Linear(0, 0.8),
    )
    distiller = made(Past(SAMPLES, torch.float64), 1.0 * soft)
    optimizer = torch.optim.SGD(distiller.parameters(), rate)
    model, memory = mlp().double(), torch.full((SAMPLES, 3), float("nan"), dtype=torch.float64)
    plain = torch.optim.SGD(model.parameters(), rate)
    for step in range(steps):
        x, given = data(step)
        distiller.advance(step / (steps - 1))
        distiller(x.double(), **given).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

        alpha, z, ids = 0.8 * step / (steps - 1), model(x.double()), given["ids"]
        past = torch.where(memory[ids].isnan(), z.detach(), memory[ids]).softmax(1)
        targets = (1 - alpha) * F.one_hot(given["target"], 3) + alpha * past
        memory[ids] = z.detach()
        (-(targets * z.log_softmax(1)).sum(1).mean()).backward()
        plain.step()
        plain.zero_grad()
    assert not bool(memory.isnan().any())
    for name, value in weights(model).items():
        torch.testing.assert_close(weights(distiller.student)[name], value, rtol=0, atol=1e-7)


def test_dlb_is_the_loop_written_by_hand() -> None:
    """Each batch begins with the second half of the one before, which alone is taught."""
    half, rate = 3, 0.3
    last = Match(losses.kl, source="past", temperature=3, given={"mask": "past:recent"})
    distiller = made(Past(SAMPLES, torch.float64), truth() + last)
    optimizer = torch.optim.SGD(distiller.parameters(), rate)
    model, before = mlp().double(), None
    plain = torch.optim.SGD(model.parameters(), rate)
    inputs, labels = batch(SAMPLES)
    for step in range(5):
        ids = (torch.arange(2 * half) + half * step) % SAMPLES
        x, y = inputs[ids].double(), labels[ids]
        distiller.advance(step / 4)
        loss = distiller(x, target=y, ids=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

        z = model(x)
        own = F.cross_entropy(z, y)
        if before is not None:
            p, log_q = (before / 3).softmax(1), (z[:half] / 3).log_softmax(1)
            own = own + 9 * (p * (p.log() - log_q)).sum(1).mean()
        before = z[half:].detach()
        torch.testing.assert_close(loss, own, rtol=0, atol=1e-12)
        own.backward()
        plain.step()
        plain.zero_grad()
    for name, value in weights(model).items():
        torch.testing.assert_close(weights(distiller.student)[name], value, rtol=0, atol=1e-12)


def test_a_mark_alone_may_be_read() -> None:
    count = Term(
        lambda known, z: known.sum() + 0 * z.sum(),
        given={"known": "past:known", "z": "student:output"},
        name="n",
    )
    distiller = made(objective=1.0 * count)
    x, given = data(0)
    seen = []
    for step in range(2):
        distiller.advance(step)
        seen.append(float(distiller(x.double(), **given).loss.detach()))
    assert seen == [0.0, 6.0]
