"""Two gloo processes train as one does; public reports by their ids.

The scenarios run together in one pair of processes; each leaves what it saw, by rank.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.networks import batch, gradients, mlp
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from limbeck import Balance, Distiller, Match, losses, truth
from limbeck.checkpoint import save_weights
from limbeck.errors import LimbeckError
from limbeck.projectors import linear

ROWS, STEPS, PIECES = 12, 20, 2
Seen = dict[str, Any]


def make(dtype: torch.dtype = torch.float32, seed: int = 0, prepare: bool = True) -> Distiller:
    """Labels, soft labels and a projected hint; without batch statistics."""
    hint = Match(losses.hint, "body", project=linear)
    objective = 0.5 * truth() + 0.5 * Match(losses.kl, temperature=4) + 10 * hint
    distiller = Distiller(mlp(3).to(dtype), mlp(5, seed=1).to(dtype), objective)
    torch.manual_seed(seed)
    if prepare:
        distiller.prepare(torch.zeros(2, 4, dtype=dtype), target=torch.tensor([0, 1]))
    return distiller


def data(step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A global batch whose labels are withheld unevenly; once, one rank has none."""
    x, y = batch(ROWS, seed=step)
    y[: 6 if step == 3 else step % 5] = -100
    return x.to(dtype), y


def several(loss: Any) -> tuple[Distiller, Callable[[Tensor], Tensor]]:
    """Answers that do not compete, and what makes three targets, some unknown, of a label."""
    soft, unknown = (
        (losses.squared_error, float("nan"))
        if loss is losses.squared_error
        else (losses.binary_kl, -100.0)
    )

    def targets(y: Tensor) -> Tensor:
        rows = torch.stack([y == 0, y == 1, y != 2], 1).double()
        rows[y == 0, 1] = unknown
        rows[y < 0] = unknown
        return rows

    teacher = mlp(3, seed=1).double()
    return Distiller(mlp(3).double(), teacher, 0.5 * truth(loss=loss) + 0.5 * Match(soft)), targets


def as_is(y: Tensor) -> Tensor:
    return y


def train(
    wrapped: nn.Module,
    distiller: Distiller,
    dtype: torch.dtype,
    ranks: int,
    targets: Callable[[Tensor], Tensor] = as_is,
) -> None:
    """Every rank takes its rows in two pieces, with shares of the whole step."""
    rank = dist.get_rank() if ranks > 1 else 0
    optimizer = torch.optim.SGD(distiller.parameters(), 0.05, momentum=0.9)
    for step in range(STEPS):
        x, y = data(step, dtype)
        y = targets(y)
        total = distiller.items(ROWS, target=y)
        mine = torch.arange(ROWS).chunk(ranks)[rank]
        for rows in mine.chunk(PIECES if ranks > 1 else 1):
            items = distiller.items(len(rows), target=y[rows])
            share = {name: ranks * int(n) / int(total[name]) for name, n in items.items()}
            wrapped(x[rows], target=y[rows], share=share).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def state(distiller: Distiller) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in distiller.state_dict().items()}


def refusal(call: Callable[[], Any]) -> str:
    """The error that a call raises, or nothing."""
    try:
        call()
    except (LimbeckError, RuntimeError) as error:
        return str(error)
    return ""


# ---- what the two processes do


def equal_to_one_process(folder: Path) -> Seen:
    seen = {}
    for dtype in (torch.float32, torch.float64):
        distiller = make(dtype)
        train(DistributedDataParallel(distiller), distiller, dtype, ranks=2)
        seen[str(dtype)] = state(distiller)
    return seen


def several_equal_to_one_process(folder: Path) -> Seen:
    seen = {}
    for loss in (losses.binary_cross_entropy, losses.squared_error):
        distiller, targets = several(loss)
        train(DistributedDataParallel(distiller), distiller, torch.float64, 2, targets)
        seen[loss.__name__] = state(distiller)
    return seen


def projectors_start_alike(folder: Path) -> Seen:
    distiller = make(seed=dist.get_rank())
    drawn = state(distiller)
    wrapped = DistributedDataParallel(distiller)
    train(wrapped, distiller, torch.float32, ranks=2)
    return {"drawn": drawn, "trained": state(distiller)}


def calls_outside_of_the_wrapper(folder: Path) -> Seen:
    wrapped = DistributedDataParallel(make())
    x, y = data(0, torch.float32)
    with torch.no_grad():
        evaluated = wrapped.module(x, target=y).loss
    return {
        "module": refusal(lambda: wrapped.module(x, target=y)),
        "student in ddp": refusal(
            lambda: Distiller(DistributedDataParallel(mlp()), mlp(seed=1), 1.0 * truth())(
                x, target=y
            )
        ),
        "wrapper": refusal(lambda: wrapped(x, target=y)),
        "evaluated": evaluated,
        "generated": wrapped.module.student(x).detach(),
    }


def a_projector_made_too_late(folder: Path) -> Seen:
    distiller = make(prepare=False)
    wrapped = DistributedDataParallel(distiller)
    x, y = data(0, torch.float32)
    before = refusal(lambda: wrapped(x, target=y))
    distiller.prepare(x, target=y)
    return {"before": before, "after": refusal(lambda: wrapped(x, target=y))}


def features_alone(folder: Path) -> Seen:
    """The head is above the tap, so that it takes no gradient."""
    x, _ = data(0, torch.float32)

    def run(find: bool) -> dict[str, Tensor]:
        distiller = Distiller(mlp(), mlp(seed=1), 1.0 * Match(losses.hint, "body"))
        wrapped = DistributedDataParallel(distiller, find_unused_parameters=find)
        for _ in range(3):
            wrapped(x[dist.get_rank() :: 2]).loss.backward()
        return gradients(distiller.student)

    return {"found": run(find=True), "not found": refusal(lambda: run(find=False))}


def saving_in_the_middle(folder: Path) -> Seen:
    distiller = make()
    wrapped = DistributedDataParallel(distiller)
    optimizer = torch.optim.SGD(distiller.parameters(), 0.05)
    file = folder / "student.safetensors"
    for step in range(2):
        x, y = data(step, torch.float32)
        wrapped(x[dist.get_rank() :: 2], target=y[dist.get_rank() :: 2]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            saved = distiller.student.state_dict()
            saved = {name: value.clone() for name, value in saved.items()}
            if dist.get_rank() == 0:
                save_weights(distiller.student, file)
            dist.barrier()
    return {"saved": saved, "trained": state(distiller)}


def sharded(folder: Path) -> Seen:
    distiller = make(torch.float64)
    inside = refusal(lambda: sharded_student_alone())
    fully_shard(distiller.student)
    fully_shard(distiller)
    train(distiller, distiller, torch.float64, ranks=2)
    whole = {name: value.full_tensor() for name, value in distiller.state_dict().items()}
    return {"trained": whole, "student alone": inside}


def sharded_student_alone() -> None:
    distiller = make()
    fully_shard(distiller.student)
    x, y = data(0, torch.float32)
    distiller(x, target=y)


def balanced(folder: Path) -> Seen:
    """Each rank finds the factors on rows of its own."""
    seen: Seen = {}
    for name, wrap in (("ddp", DistributedDataParallel), ("fsdp", fully_shard)):
        hint = Balance(0.5) * Match(losses.hint, "body", project=linear)
        objective = truth() + Balance(0.2) * Match(losses.kl, temperature=4) + hint
        distiller = Distiller(mlp(3), mlp(5, seed=1), objective)
        torch.manual_seed(0)
        x, y = batch(ROWS, seed=dist.get_rank())
        distiller.prepare(x, target=y)
        seen["factors"] = factors(distiller)
        with torch.no_grad():
            parts = distiller(x, target=y).parts
        seen["values"] = float(parts["truth"]), float(parts["kl"]) / seen["factors"][0]
        wrapped = wrap(distiller)
        optimizer = torch.optim.SGD(distiller.parameters(), 0.05)
        for step in range(5):
            x, y = batch(ROWS, seed=10 * step + dist.get_rank())
            wrapped(x, target=y).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seen[name] = {n: whole(value).clone() for n, value in distiller.state_dict().items()}
    return seen


def factors(distiller: Distiller) -> list[float]:
    return [float(factor.current) for factor in distiller.objective.factors()]


def whole(value: Any) -> Tensor:
    """A tensor of all ranks."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def sharded_teacher(folder: Path) -> Seen:
    """A teacher in parts of its own, beside a student in parts."""
    distiller = make(torch.float64)
    (teacher,) = distiller.sources["teacher"].modules()
    for part in (teacher.body, teacher, distiller.student, distiller):
        fully_shard(part)
    train(distiller, distiller, torch.float64, ranks=2)
    return {name: value.full_tensor() for name, value in distiller.state_dict().items()}


def ragged() -> tuple[Distiller, Tensor, Tensor]:
    """Five tokens whose losses are 0.9, 0.2, 0.2, 0.2 and 0.2."""
    student = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        student.weight.copy_(torch.eye(2))
    values = torch.tensor([0.9, 0.2, 0.2, 0.2, 0.2], dtype=torch.float64)
    x = torch.stack([-values.expm1().log(), torch.zeros_like(values)], 1)
    return Distiller(student, {}, 1.0 * truth()), x, torch.zeros(5, dtype=torch.long)


def step_of(wrapped: nn.Module, distiller: Distiller, x: Tensor, y: Tensor, share: Any) -> float:
    """The loss before a step of gradient descent."""
    loss = wrapped(x, target=y, share=share).loss
    loss.backward()
    torch.optim.SGD(distiller.parameters(), 0.5).step()
    return float(loss.detach())


def tokens_that_ranks_have_unevenly(folder: Path) -> Seen:
    distiller, x, y = ragged()
    rows = slice(0, 1) if dist.get_rank() == 0 else slice(1, 5)
    total, items = distiller.items(5, target=y), distiller.items(len(x[rows]), target=y[rows])
    share = {name: 2 * int(n) / int(total[name]) for name, n in items.items()}
    wrapped = DistributedDataParallel(distiller)
    loss = step_of(wrapped, distiller, x[rows], y[rows], share)
    return {"loss": loss / 2, "weight": distiller.student.weight.detach().clone()}


SCENARIOS = (
    sharded_teacher,
    tokens_that_ranks_have_unevenly,
    balanced,
    equal_to_one_process,
    several_equal_to_one_process,
    projectors_start_alike,
    calls_outside_of_the_wrapper,
    a_projector_made_too_late,
    features_alone,
    saving_in_the_middle,
    sharded,
)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    for scenario in SCENARIOS:
        torch.save(scenario(folder), folder / f"{scenario.__name__}-{rank}.pt")
        dist.barrier()
    dist.destroy_process_group()


# ---- what must be seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return folder


def seen_by(folder: Path, scenario: Callable[[Path], Seen]) -> list[Seen]:
    return [torch.load(folder / f"{scenario.__name__}-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_two_ranks_equal_one_process(folder: Path, dtype: torch.dtype, close: float) -> None:
    alone = make(dtype)
    start = state(alone)
    train(alone, alone, dtype, ranks=1)
    for seen in seen_by(folder, equal_to_one_process):
        assert seen[str(dtype)].keys() == start.keys()
        assert "objective.terms.2.projector.weight" in start
        for name, value in state(alone).items():
            assert not torch.equal(value, start[name])
            torch.testing.assert_close(seen[str(dtype)][name], value, rtol=0, atol=close)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.squared_error])
def test_two_ranks_equal_one_process_for_several_targets(folder: Path, loss: Any) -> None:
    alone, targets = several(loss)
    start = state(alone)
    train(alone, alone, torch.float64, 1, targets)
    for seen in seen_by(folder, several_equal_to_one_process):
        for name, value in state(alone).items():
            assert not torch.equal(value, start[name])
            torch.testing.assert_close(seen[loss.__name__][name], value, rtol=0, atol=1e-10)


def test_ranks_agree_bit_for_bit_though_projectors_were_drawn_apart(folder: Path) -> None:
    first, second = seen_by(folder, projectors_start_alike)
    name = "objective.terms.2.projector.weight"
    assert not torch.equal(first["drawn"][name], second["drawn"][name])
    assert all(torch.equal(first["trained"][key], second["trained"][key]) for key in first["drawn"])


def test_calling_what_is_inside_of_the_wrapper_is_caught(folder: Path) -> None:
    for seen in seen_by(folder, calls_outside_of_the_wrapper):
        assert "call the wrapper, not wrapper.module" in seen["module"]
        assert "call the wrapper, not wrapper.module" in seen["student in ddp"]
        assert seen["wrapper"] == ""
        assert seen["evaluated"].isfinite()
        assert seen["generated"].shape == (ROWS, 3)


def test_a_projector_made_after_wrapping_is_caught(folder: Path) -> None:
    for seen in seen_by(folder, a_projector_made_too_late):
        assert "call distiller.prepare(inputs) first" in seen["before"]
        assert "a projector was made after wrapping" in seen["after"]


def test_b058_an_objective_of_features_alone(folder: Path) -> None:
    first, second = seen_by(folder, features_alone)
    assert set(first["found"]) == {"stem.weight", "stem.bias", "body.weight", "body.bias"}
    assert all(torch.equal(first["found"][name], second["found"][name]) for name in first["found"])
    for seen in (first, second):
        assert "find_unused_parameters=True" in seen["not found"]


def test_b064_saving_in_the_middle_disturbs_no_rank(folder: Path) -> None:
    first, second = seen_by(folder, saving_in_the_middle)
    student = mlp(3)
    student.load_state_dict(load_file(folder / "student.safetensors"), strict=True)
    for name, value in student.state_dict().items():
        assert torch.equal(value, first["saved"][name])
        assert not torch.equal(value, first["trained"][f"student.{name}"])
    assert all(torch.equal(first["trained"][n], second["trained"][n]) for n in first["trained"])


def test_b065_balanced_weights_are_those_of_all_ranks(folder: Path) -> None:
    """Before any wrapper, and bit for bit after five steps."""
    first, second = seen_by(folder, balanced)
    assert first["values"] != second["values"]
    assert first["factors"] == second["factors"]
    truths, kls = zip(first["values"], second["values"], strict=True)
    assert first["factors"][0] == pytest.approx(0.2 * sum(truths) / sum(kls), rel=1e-6)
    for wrapper in ("ddp", "fsdp"):
        assert first[wrapper].keys() == second[wrapper].keys()
        assert all(torch.equal(first[wrapper][n], second[wrapper][n]) for n in first[wrapper])
        names = [name for name in first[wrapper] if name.startswith("objective.weights")]
        assert [float(first[wrapper][name]) for name in names] == first["factors"]


def test_b055_ranks_with_other_numbers_of_tokens_equal_one_process(folder: Path) -> None:
    """(0.9 + 4 * 0.2) / 5, where a mean of the ranks' means would be 0.55."""
    alone, x, y = ragged()
    assert step_of(alone, alone, x, y, None) == pytest.approx(0.34, abs=1e-12)
    seen = seen_by(folder, tokens_that_ranks_have_unevenly)
    assert sum(each["loss"] for each in seen) == pytest.approx(0.34, abs=1e-12)
    assert not torch.equal(alone.student.weight, torch.eye(2, dtype=torch.float64))
    for each in seen:
        torch.testing.assert_close(each["weight"], alone.student.weight, rtol=0, atol=1e-12)


def test_a_teacher_in_parts_teaches_as_a_whole_one(folder: Path) -> None:
    alone = make(torch.float64)
    train(alone, alone, torch.float64, ranks=1)
    for seen in seen_by(folder, sharded_teacher):
        for name, value in state(alone).items():
            torch.testing.assert_close(seen[name], value, rtol=0, atol=1e-10)


def test_sharded_ranks_equal_one_process(folder: Path) -> None:
    alone = make(torch.float64)
    train(alone, alone, torch.float64, ranks=1)
    for seen in seen_by(folder, sharded):
        for name, value in state(alone).items():
            torch.testing.assert_close(seen["trained"][name], value, rtol=0, atol=1e-10)
        assert "call the wrapper" in seen["student alone"]
