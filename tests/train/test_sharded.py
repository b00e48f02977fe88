"""Two ranks that hold a training in parts train as one process does; public reports by their ids.

The scenarios run together in one pair of processes; each leaves what it saw, by rank.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.runs import FORKS, SECONDS, free_port, said
from tests.train.jobs import (
    Signalled,
    doubled,
    equal,
    images,
    loader,
    net,
    records,
    rich,
    saved,
    textbook,
    timeless,
    weights,
)
from torch import Tensor, nn

from limbeck import Distiller, Frozen, Match, Mutual, losses, truth
from limbeck.checkpoint import load_weights, save_weights
from limbeck.distiller import is_sharded
from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals
from limbeck.train import Job, Training, train
from limbeck.train import shards as sharded_state
from limbeck.train.job import Learner
from limbeck.train.loop import Trainer
from limbeck.train.ranks import Ranks, joined
from limbeck.train.run import Run
from limbeck.train.sharding import blocks
from limbeck.train.watch import check_weights

Seen = dict[str, Any]
SCENARIOS: list[Callable[[Path, Ranks], Seen]] = []
UNEVEN = (0, 1, 2, 3, 4, 5, 6, 9, 14, 15, 20)
RICH = {"optimizer": "AdamW", "accumulate": 2, "clip": 0.5}


class Residual(nn.Module):
    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


class Deep(nn.Module):
    """Three blocks of one kind between a stem and a head."""

    def __init__(self, width: int = 5, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(Residual(width, norm) for _ in range(3)))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.conv(x)).mean((2, 3)))


def deep(norm: bool = False) -> Deep:
    torch.manual_seed(0)
    return Deep(norm=norm)


def run(
    folder: Path,
    ranks: Ranks,
    made: Learner,
    *,
    resume: bool = False,
    end: int | None = None,
    parts: Mapping[str, list[str] | None] | None = None,
    **settings: Any,
) -> nn.Module | None:
    """Trains eight steps of twelve rows, some without a label; None where a signal ends it."""
    batches: Any = loader(images(48, UNEVEN), 12, rank=ranks.rank, world=ranks.world)
    if end is not None and ranks.rank == ranks.world - 1:
        batches = Signalled(batches, end - 1)
    given = {"epochs": 2, "batch_size": 12, "log_every": 1, "lr": 0.02, "parallel": "fsdp"}
    opened = Run(folder, writes=ranks.first, resume=resume)
    settings = Training(**{**given, **settings})
    try:
        valid = images(9, seed=5)
        job = Job(made, batches, settings, opened, valid=valid, ranks=ranks, parts=parts or {})
        return train(job, resume=resume)
    except SystemExit:
        return None


def refusal(call: Callable[[], Any]) -> str:
    """The error that a call raises, or nothing."""
    try:
        call()
    except LimbeckError as error:
        return str(error)
    return ""


def group() -> Mutual:
    """Two students that learn from each other, in double precision."""
    readers = {name: doubled(textbook(), deep()).reader for name in ("a", "b")}
    with torch.no_grad():
        readers["b"].model.head.weight.neg_()
    return Mutual(readers, truth() + Match(losses.kl, source="peers"))


def features() -> Distiller:
    """The head is above the tap, so that nothing reaches it."""
    return doubled(1.0 * Match(losses.attention, "body", "conv"), deep())


MADE: dict[str, tuple[Callable[[], Learner], Seen]] = {
    "rich": (lambda: doubled(rich(), deep()), RICH),
    "averaged": (lambda: doubled(rich(), deep()), {"ema": 0.8, "shard": ["body.0", "body.2"]}),
    "a group": (group, {"accumulate": 3}),
}


# ---- what the two processes do


def scenario(function: Callable[[Path, Ranks], Seen]) -> Callable[[Path, Ranks], Seen]:
    SCENARIOS.append(function)
    return function


@scenario
def straight(folder: Path, ranks: Ranks) -> Seen:
    for name, (make, settings) in MADE.items():
        run(folder / name, ranks, make(), **settings)
    return {}


@scenario
def broken(folder: Path, ranks: Ranks) -> Seen:
    """Stopped by a signal to one rank inside of an epoch, then going on."""
    for name, (make, settings) in MADE.items():
        stopped = folder / f"{name} broken"
        run(stopped, ranks, make(), end=5, **settings)
        run(stopped, ranks, make(), resume=True, **settings)
    return {}


@scenario
def other_numbers_of_ranks(folder: Path, ranks: Ranks) -> Seen:
    """Leaves a run of two ranks for one process, and goes on with one of one process."""
    make, settings = MADE["rich"]
    run(folder / "two then one", ranks, make(), end=5, **settings)
    run(folder / "one then two", ranks, make(), resume=True, **settings)
    return {}


@scenario
def batch_statistics(folder: Path, ranks: Ranks) -> Seen:
    """Rows of its own on each rank, so that each sees other means."""
    found = {}
    for parallel in ("ddp", "fsdp"):
        made = doubled(rich(), deep(norm=True))
        run(folder / f"norm {parallel}", ranks, made, parallel=parallel, accumulate=2)
        found[parallel] = {name: value.clone() for name, value in made.named_buffers()}
    return found


@scenario
def what_is_exchanged(folder: Path, ranks: Ranks) -> Seen:
    """Messages of one step in one piece and in three."""
    from torch.distributed.tensor.debug import CommDebugMode

    found = {}
    for pieces in (1, 3):
        batches = loader(images(), 12, rank=ranks.rank, world=ranks.world)
        settings = Training(batch_size=12, accumulate=pieces, parallel="fsdp")
        made = doubled(rich(), deep())
        job = Job(made, batches, settings, Run(folder / "none", writes=False), ranks=ranks)
        trainer = Trainer(job)
        trainer.update(next(batches.epoch(0)))
        with CommDebugMode() as messages:
            trainer.update(next(batches.epoch(0, 1)))
        counts = {str(op): n for op, n in messages.get_comm_counts().items()}
        found[pieces] = sum(n for op, n in counts.items() if "reduce_scatter" in op)
        modules = {n: m for n, m in made.named_modules() if is_sharded(m)}
        found["modules"] = sorted(modules)
        projector = dict(made.named_parameters())["objective.terms.2.projector.weight"]
        found["part"] = tuple(projector.to_local().shape), tuple(projector.shape)
    return found


def taught(own: list[str] | None = None) -> tuple[Distiller, Mapping[str, list[str] | None]]:
    """The rich training with a deep teacher, and how that is to be held."""
    made = doubled(rich(), deep())
    source = made.sources["teacher"]
    assert isinstance(source, Frozen)
    torch.manual_seed(3)
    teacher = Frozen(Deep(6).double(), inputs=source.inputs)
    return Distiller(made.reader, {"teacher": teacher}, rich()), {"teacher": own}


def answers(made: Learner) -> Tensor:
    """What a teacher says of some images, its features included."""
    batch = Batch(images(7, seed=9).pixels)
    found = made.sources["teacher"](batch, Signals(), ["output", "body.1"])
    return torch.cat([value.flatten(1) for value in found.values()], 1)


@scenario
def a_teacher_in_parts(folder: Path, ranks: Ranks) -> Seen:
    """Beside the same one that is whole, with blocks that are found and that are named."""
    whole, _ = taught()
    run(folder / "whole teacher", ranks, whole, **RICH)
    seen: Seen = {"answers": answers(whole)}
    for name, own in (("found", None), ("named", ["conv", "body.1"])):
        made, parts = taught(own)
        run(folder / f"teacher {name}", ranks, made, parts=parts, **RICH)
        (teacher,) = made.sources["teacher"].modules()
        every = list(teacher.parameters())
        seen[name] = {
            "answers": answers(made),
            "held": sum(p.to_local().numel() for p in every) / sum(p.numel() for p in every),
            "roots": [path for path, module in teacher.named_modules() if is_sharded(module)],
        }
    made, parts = taught(["bodi.1"])
    seen["error"] = refusal(lambda: run(folder / "misnamed", ranks, made, parts=parts))
    return seen


@scenario
def weights_that_no_loss_reaches(folder: Path, ranks: Ranks) -> Seen:
    settings = {"parallel": "ddp"}
    found = refusal(lambda: run(folder / "refused", ranks, features(), **settings))
    run(folder / "found", ranks, features(), find_unused=True, **settings)
    run(folder / "unreached", ranks, features())
    return {"error": found}


@scenario
def weights_that_are_not_finite(folder: Path, ranks: Ranks) -> Seen:
    made = doubled(textbook(), deep())
    settings = Training(batch_size=12, parallel="fsdp")
    batches = loader(images(), 12, rank=ranks.rank, world=ranks.world)
    job = Job(made, batches, settings, Run(folder / "none", writes=False), ranks=ranks)
    Trainer(job)
    fine = refusal(lambda: check_weights(made, 3, ranks))
    if not ranks.first:
        made.student.head.weight.detach().to_local().fill_(float("inf"))
    return {"before": fine, "after": refusal(lambda: check_weights(made, 3, ranks))}


@scenario
def saving_what_is_in_parts(folder: Path, ranks: Ranks) -> Seen:
    """On the first rank alone, which must neither wait for the others nor write its part."""
    made = doubled(textbook(), deep())
    settings = Training(batch_size=12, parallel="fsdp")
    batches = loader(images(), 12, rank=ranks.rank, world=ranks.world)
    Trainer(Job(made, batches, settings, Run(folder / "none", writes=False), ranks=ranks))
    path = folder / "part.safetensors"
    if not ranks.first:
        return {}
    return {
        "saving": refusal(lambda: save_weights(made.student, path)),
        "loading": refusal(lambda: load_weights(made.student, folder / "rich/student.safetensors")),
        "there": path.exists(),
    }


@scenario
def what_the_first_rank_finds(folder: Path, ranks: Ranks) -> Seen:
    def fails() -> str:
        raise LimbeckError("no such thing")

    told = ranks.from_first(lambda: f"rank {ranks.rank}")
    return {"told": told, "error": refusal(lambda: ranks.from_first(fails))}


@scenario
def folders_that_are_not_shared(folder: Path, ranks: Ranks) -> Seen:
    own = folder / f"node {ranks.rank}"
    own.mkdir()
    tensors = {"x": torch.ones(2), "y": torch.ones(3)}
    return {"error": refusal(lambda: sharded_state.save(tensors, own / "shards-1", ranks))}


def work(rank: int, port: int, folder: Path) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in places.items()}, MASTER_ADDR="127.0.0.1")
    try:
        with joined() as ranks:
            for each in SCENARIOS:
                torch.save(each(folder, ranks), folder / f"{each.__name__}-{rank}.pt")
    except BaseException:
        (folder / f"{rank}.log").write_text(traceback.format_exc())
        sys.exit(1)


# ---- what must be seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, port = tmp_path_factory.mktemp("sharded"), free_port()
    make, settings = MADE["rich"]
    run(folder / "one then two", Ranks(), make(), end=5, **settings)
    pair = [FORKS.Process(target=work, args=(k, port, folder), daemon=True) for k in (0, 1)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(SECONDS)
    ends = [process.exitcode for process in pair]
    assert ends == [0, 0], [said(folder / f"{rank}.log") for rank in (0, 1)]
    return folder


def seen_by(folder: Path, scenario: Callable[[Path, Ranks], Seen]) -> list[Seen]:
    return [torch.load(folder / f"{scenario.__name__}-{rank}.pt") for rank in (0, 1)]


def students(folder: Path) -> dict[str, Tensor]:
    """The weights of all students of a run."""
    paths = [folder / "student.safetensors", *sorted(folder.glob("students/*.safetensors"))]
    return {f"{path.stem} {k}": v for path in paths for k, v in load_file(path).items()}


def parts(folder: Path) -> dict[str, dict[str, Tensor]]:
    """What the ranks wrote, by file."""
    (shards,) = folder.glob("checkpoints/*shards-*")
    return {path.name: load_file(path) for path in sorted(shards.iterdir())}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same trainings in one process, which divides nothing."""
    folder = tmp_path_factory.mktemp("alone")
    for name, (make, settings) in MADE.items():
        whole = {"accumulate": 1, "parallel": "ddp", "shard": None}
        run(folder / name, Ranks(), make(), **{**settings, **whole})
    return folder


@pytest.mark.parametrize("name", MADE)
def test_parts_equal_one_process(name: str, folder: Path, alone: Path) -> None:
    """With uneven labels, clipping, pieces, a projector, averages, and several students."""
    expected, found = students(alone / name), students(folder / name)
    assert found.keys() == expected.keys()
    start = {f"student {k}": v.double() for k, v in weights(deep()).items()}
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10)
        assert key not in start or not torch.equal(value, start[key])
    kinds = ("eval", "done")
    lines = [[x["kind"] for x in records(each / name, *kinds)] for each in (folder, alone)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("name", MADE)
def test_stopping_and_going_on_leaves_the_same_bits(name: str, folder: Path) -> None:
    """Weights, moments, averages and metrics, of each rank."""
    straight, broken = folder / name, folder / f"{name} broken"
    assert equal(students(broken), students(straight))
    assert equal(parts(broken), parts(straight))
    states = [saved(each) for each in (broken, straight)]
    assert [*states[0].pop("shards")] == [*states[1].pop("shards")]
    assert equal(*states)
    assert timeless(broken) == timeless(straight)


def test_ranks_write_what_they_hold_and_leave_one_state(folder: Path) -> None:
    first, second = parts(folder / "rich").values()
    weight = "model.student.body.0.conv.weight"
    moment = [name for name in first if name.startswith("optimizer.") and "exp_avg" in name]
    assert len(moment) == len([name for name in second if "exp_avg" in name]) == 2 * 12
    assert (len(first[weight]), len(second[weight])) == (3, 2)
    whole = load_file(folder / "rich/student.safetensors")["body.0.conv.weight"]
    assert torch.equal(torch.cat([first[weight], second[weight]]), whole)
    state = saved(folder / "rich")
    assert "distiller" not in state
    assert sorted(state["shards"]) == sorted(parts(folder / "rich"))


def test_b064_the_student_loads_strictly_into_the_plain_model(folder: Path) -> None:
    for name in ("rich", "averaged"):
        state = load_file(folder / name / "student.safetensors")
        deep().double().load_state_dict(state, strict=True)
        assert (folder / name / "checkpoints/best.safetensors").exists()


def test_b064_one_rank_that_saves_parts_is_told_so_at_once(folder: Path) -> None:
    seen = seen_by(folder, saving_what_is_in_parts)[0]
    assert "is in parts on several ranks" in seen["saving"]
    assert "full_tensor() of every tensor on all ranks" in seen["loading"]
    assert not seen["there"]


def test_two_ranks_leave_what_one_process_goes_on_with(folder: Path) -> None:
    make, settings = MADE["rich"]
    run(folder / "two then one", Ranks(), make(), resume=True, **settings)
    for name in ("two then one", "one then two"):
        for key, value in students(folder / "rich").items():
            found = students(folder / name)[key]
            torch.testing.assert_close(found, value, rtol=0, atol=1e-10)
        assert saved(folder / name)["step"] == saved(folder / "rich")["step"] == 8


def test_batch_statistics_are_the_first_ranks_as_in_ddp(folder: Path) -> None:
    first, second = seen_by(folder, batch_statistics)
    assert equal(first["fsdp"], second["fsdp"])
    assert not equal(first["ddp"], second["ddp"])
    for name, value in first["ddp"].items():
        torch.testing.assert_close(first["fsdp"][name], value, rtol=0, atol=1e-10)
    expected = students(folder / "norm ddp")
    for key, value in students(folder / "norm fsdp").items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-10)


def test_pieces_are_exchanged_once_a_step(folder: Path) -> None:
    """Three blocks, the rest of the student, and the projector: five messages."""
    for seen in seen_by(folder, what_is_exchanged):
        assert seen["modules"] == ["", "student", *(f"student.body.{k}" for k in range(3))]
        assert seen[1] == seen[3] == 5
        assert seen["part"][0][0] < seen["part"][1][0]


@pytest.mark.parametrize("name", ["found", "named"])
def test_a_teacher_in_parts_teaches_as_a_whole_one(name: str, folder: Path) -> None:
    """The same answers and features, the same student within 1e-6, and half of it on a rank."""
    roots = {"found": [f"body.{k}" for k in range(3)], "named": ["conv", "body.1"]}
    for seen in seen_by(folder, a_teacher_in_parts):
        assert torch.equal(seen[name]["answers"], seen["answers"])
        assert 0.4 < seen[name]["held"] < 0.6
        assert seen[name]["roots"] == ["", *roots[name]]
        assert "shard of the source 'teacher' must name modules of the model" in seen["error"]
    expected = students(folder / "whole teacher")
    for key, value in students(folder / f"teacher {name}").items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-6)
        assert not torch.equal(value, weights(deep().double())[key.removeprefix("student ")])


def test_b058_weights_that_no_loss_reaches_are_named_with_the_key(folder: Path) -> None:
    for seen in seen_by(folder, weights_that_no_loss_reaches):
        assert "no loss of step 0 reaches student.head.weight, student.head.bias" in seen["error"]
        assert "train.find_unused: true" in seen["error"]
    found, unreached = students(folder / "found"), students(folder / "unreached")
    for key, value in found.items():
        torch.testing.assert_close(unreached[key], value, rtol=0, atol=1e-10)
    assert torch.equal(found["student head.weight"], deep().double().head.weight)
    assert not torch.equal(found["student conv.weight"], deep().double().conv.weight)


def test_weights_of_one_rank_that_are_not_finite_stop_all(folder: Path) -> None:
    seen = seen_by(folder, weights_that_are_not_finite)
    assert [each["before"] for each in seen] == ["", ""]
    assert seen[0] == seen[1]
    assert seen[0]["after"].startswith("student.head.weight must stay finite, but is not after")


def test_what_the_first_rank_finds_all_have(folder: Path) -> None:
    expected = {"told": "rank 0", "error": "no such thing"}
    assert seen_by(folder, what_the_first_rank_finds) == [expected] * 2


def test_a_folder_that_not_all_ranks_see_is_refused(folder: Path) -> None:
    for seen in seen_by(folder, folders_that_are_not_shared):
        assert "every rank must see the run folder" in seen["error"]


# ---- one process


@pytest.mark.parametrize(
    "place", ["limbeck.train.shards.checksums", "limbeck.train.run.save_state"]
)
def test_a_save_that_breaks_off_leaves_the_state_before(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk while the parts are written, and one while the state is."""
    make, settings = MADE["rich"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run(straight, Ranks(), make(), **settings)
    run(broken, Ranks(), make(), end=3, **settings)
    before = saved(broken)
    again = {"resume": True, **settings}

    def full(*args: Any) -> Any:
        raise LimbeckError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        assert "no space" in refusal(lambda: run(broken, Ranks(), make(), **again))
    assert equal(saved(broken), before)
    run(broken, Ranks(), make(), **again)
    assert equal(students(broken), students(straight))
    assert equal(parts(broken), parts(straight))


def test_a_part_that_is_altered_or_missing_is_refused(tmp_path: Path) -> None:
    make, settings = MADE["rich"]
    run(tmp_path, Ranks(), make(), end=3, **settings)
    (path,) = tmp_path.glob("checkpoints/shards-3/*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = {"resume": True, **settings}
    assert f"{path.name} is damaged" in refusal(lambda: run(tmp_path, Ranks(), make(), **again))
    path.unlink()
    assert "lacks" in refusal(lambda: run(tmp_path, Ranks(), make(), **again))


def test_a_new_run_removes_the_parts_of_an_old_one(tmp_path: Path) -> None:
    make, settings = MADE["rich"]
    run(tmp_path, Ranks(), make(), end=3, **settings)
    (tmp_path / "checkpoints/.shards-4.tmp").mkdir()
    Run(tmp_path, overwrite=True).close()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_blocks_are_found_or_named() -> None:
    student = deep()
    assert blocks(student) == list(student.body)
    assert blocks(student, ["body.1", "body.1"]) == [student.body[1]]
    assert blocks(net()) == []
    with pytest.raises(LimbeckError, match=r"got 'bodi\.1'; did you mean 'body\.1'"):
        blocks(student, ["bodi.1"])


def test_a_block_that_shares_weights_stays_with_the_rest() -> None:
    student = deep()
    student.body[1].conv.weight = student.body[2].conv.weight
    assert blocks(student) == [student.body[0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard": ["body"]}, "shard names what parallel: fsdp holds in parts"),
        ({"parallel": "fsdp", "find_unused": True}, "find_unused is for parallel: ddp"),
    ],
)
def test_keys_of_the_other_kind_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training(**settings)
