"""Pieces of a batch add up to the batch, in one process and over two."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.train.jobs import (
    doubled,
    equal,
    hint,
    images,
    job,
    loader,
    net,
    rich,
    saved,
    textbook,
    timeless,
    weights,
)

from limbeck import Match, Objective, losses, truth
from limbeck.data import Mix
from limbeck.train import train

each = pytest.mark.parametrize
UNEVEN = (0, 1, 2, 3, 4, 5, 6, 9, 14, 15, 20)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "textbook": textbook,
    "rich": rich,
    "labels": lambda: 1.0 * truth(label_smoothing=0.1),
    "hard": lambda: 0.3 * truth() + 0.7 * Match(losses.hard),
    "decoupled": lambda: 1.0 * Match(losses.dkd, given={"target": "data:target"}),
    "features": lambda: 0.3 * truth() + hint(0.7) + 5.0 * Match(losses.attention, "conv"),
}


@each("pieces", [4, 12])
@each("name", OBJECTIVES)
def test_pieces_equal_the_undivided_batch(name: str, pieces: int, tmp_path: Path) -> None:
    """Withheld labels are unevenly spread, so that no piece has its share of them."""
    found = []
    for accumulate in (1, pieces):
        batches = loader(images(48, UNEVEN), 12)
        made = doubled(OBJECTIVES[name](), net())
        settings = {"batch_size": 12, "epochs": 2, "accumulate": accumulate}
        train(job(tmp_path / str(accumulate), made, batches=batches, **settings))
        found.append(weights(made))
    one, many = found
    assert one.keys() == many.keys()
    for key in one:
        torch.testing.assert_close(many[key], one[key], rtol=0, atol=1e-10)
    for left, right in zip(*(timeless(tmp_path / str(k))[:-1] for k in (1, pieces)), strict=True):
        assert left["parts"] == pytest.approx(right["parts"], abs=1e-9)
        assert sum(left["parts"].values()) == pytest.approx(right["loss"], abs=1e-9)


def test_pieces_of_a_batch_that_they_do_not_divide(tmp_path: Path) -> None:
    """A set smaller than the batch leaves 7 rows for 4 pieces, two of them without a label."""
    found = []
    for accumulate in (1, 4):
        batches = loader(images(7, withheld=(0, 3)), 8)
        made = doubled(textbook(), net())
        settings = {"batch_size": 8, "epochs": 3, "accumulate": accumulate}
        train(job(tmp_path / str(accumulate), made, batches=batches, **settings))
        found.append(weights(made))
    assert all(torch.allclose(found[0][k], found[1][k], rtol=0, atol=1e-10) for k in found[0])


def test_mixed_targets_are_shared_too(tmp_path: Path) -> None:
    found = []
    for accumulate in (1, 4):
        batches = loader(images(withheld=UNEVEN), 12, mix=Mix(mixup=0.4))
        made = doubled(textbook(), net())
        settings = {"batch_size": 12, "accumulate": accumulate}
        train(job(tmp_path / str(accumulate), made, batches=batches, **settings))
        found.append(weights(made))
    assert all(torch.allclose(found[0][k], found[1][k], rtol=0, atol=1e-10) for k in found[0])


def test_batch_statistics_see_the_pieces(tmp_path: Path) -> None:
    """What accumulation cannot hide: with batch normalisation the results differ."""
    found = []
    for accumulate in (1, 2):
        made = doubled(textbook(), net(norm=True))
        train(job(tmp_path / str(accumulate), made, accumulate=accumulate))
        found.append(weights(made)["student.conv.weight"])
    assert float((found[0] - found[1]).abs().max()) > 1e-6


# ---- two processes


RECIPE = """
data: {{train: "folder:{folder}", valid: "folder:{folder}", labels: 20, augment: {{crop: 1}}}}
student: {{model: "tests.train.jobs:net", mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
teacher: {{model: "tests.train.jobs:wide"}}
objective:
  - {{loss: truth, weight: 0.5}}
  - {{loss: kl, temperature: 4, weight: {{schedule: linear, start: 0.1, stop: 0.5}}}}
  - {{loss: hint, at: conv, project: conv, weight: 0.3}}
train: {{epochs: 20, max_steps: 20, batch_size: 12, lr: 0.05, accumulate: {accumulate},
         clip: 0.5, ema: 0.9, log_every: 1, threads: 1, evaluate_every: 20}}
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The images as JPEG files, a folder for each class."""
    from PIL import Image

    data = images(45)
    for i, (pixels, label) in enumerate(zip(data.pixels, data.labels.tolist(), strict=True)):
        folder = tmp_path / "pictures" / data.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{i}.jpg", quality=95)
    return tmp_path / "pictures"


def launched(*arguments: str) -> str:
    """What a Python process, and those that it starts, print."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def test_two_ranks_equal_one_process_after_20_steps(pictures: Path, tmp_path: Path) -> None:
    """The same global batch, a projector, an average, uneven labels, and one writer."""
    for name, accumulate, launcher in (("one", 1, ()), ("two", 2, TORCHRUN)):
        recipe, out = tmp_path / f"{name}.yaml", tmp_path / name
        recipe.write_text(RECIPE.format(folder=pictures, accumulate=accumulate))
        train_it = ("limbeck", "train", str(recipe), "--out", str(out), "--json")
        document = json.loads(launched(*launcher, "-m", *train_it))
        assert document == json.loads((out / "evaluation.json").read_text())
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    assert one["step"] == two["step"] == 20
    assert any("projector" in name for name in one["distiller"])
    for part in ("distiller", "average"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=0, atol=1e-6)
    assert not equal(one["distiller"]["student.conv.weight"], net().conv.weight)
    lines = timeless(tmp_path / "two")
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in trained] == list(range(1, 21))
    assert [line["kind"] for line in lines if line["kind"] != "train"] == ["eval", "done"]


AGREED = """
import sys
from pathlib import Path
import torch
from tests.train.jobs import Signalled, distiller, loader, net, textbook
from limbeck.train import Job, Training, train
from limbeck.train.ranks import joined
from limbeck.train.run import Run
torch.set_num_threads(1)
with joined() as ranks:
    total = ranks.total({"n": torch.tensor(ranks.rank + 1)})
    seen = [ranks.any(15 * ranks.rank), int(total["n"])]
    batches = loader(rank=ranks.rank, world=ranks.world)
    batches = Signalled(batches, 5) if ranks.rank else batches
    run = Run(Path(sys.argv[1]), writes=ranks.first)
    try:
        train(Job(distiller(textbook(), net()), batches, Training(batch_size=6), run, ranks=ranks))
    except SystemExit as end:
        seen.append(end.code)
    Path(sys.argv[1]).with_suffix(f".{ranks.rank}").write_text(f"{seen}")
"""


def test_a_signal_to_one_rank_ends_all_with_everything_saved(tmp_path: Path) -> None:
    script = tmp_path / "agreed.py"
    script.write_text(AGREED)
    launched(*TORCHRUN, str(script), str(tmp_path / "run"))
    assert [(tmp_path / f"run.{k}").read_text() for k in (0, 1)] == ["[15, 3, 143]"] * 2
    assert saved(tmp_path / "run")["step"] == 6
