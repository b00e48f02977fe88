"""From the command line: a teacher's answers are stored once, and train as the teacher does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from limbeck.checkpoint import save_weights
from limbeck.cli import main
from limbeck.recipe.labelling import Labelling
from limbeck.store import Store, merge, place
from limbeck.store.shards import write_shard
from limbeck.zoo import small_cnn

GREY = {"mean": [0.13], "std": [0.31]}


def recipe(folder: Path, **changes) -> Path:
    """A recipe with a teacher of its own on the digits, varied in three views."""
    weights = folder / "teacher.safetensors"
    if not weights.exists():
        torch.manual_seed(0)
        save_weights(small_cnn(10, width=4, channels=1), weights)
    options = {"width": 4, "channels": 1}
    content = {
        "data": {
            "train": "digits:train",
            "valid": "digits:valid",
            "test": "digits:test",
            "augment": {"crop": 2},
            "views": 3,
            "views_seed": 7,
        },
        "teacher": {
            "model": "limbeck.zoo:small_cnn",
            "checkpoint": str(weights),
            "options": options,
            **GREY,
        },
        "student": {"model": "limbeck.zoo:mlp", "options": {"hidden": 8}, **GREY},
        "objective": [{"loss": "truth", "weight": 0.5}, {"loss": "kl", "weight": 0.5}],
        "train": {"epochs": 4, "max_steps": 70, "batch_size": 64, "evaluate_every": 4},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def limbeck(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def student(folder: Path) -> bytes:
    return (folder / "student.safetensors").read_bytes()


def test_a_student_from_the_store_is_the_one_with_the_teacher_to_the_byte(tmp_path):
    """Two seeds from one store, each in another order, in batches of another size than it wrote."""
    path, store = recipe(tmp_path), tmp_path / "store"
    told = json.loads(limbeck("store", "write", path, store, "--keep", "output=float32", "--json"))
    assert (told["rows"], told["views"]) == (6000, [0, 1, 2])
    taught = f"teacher=store:{store}"
    for seed in (0, 1):
        live, stored = tmp_path / f"live-{seed}", tmp_path / f"stored-{seed}"
        rows = "train.batch_size=48"
        limbeck("train", path, f"seed={seed}", rows, "--out", live)
        limbeck("train", path, f"seed={seed}", rows, taught, "--out", stored)
        assert student(stored) == student(live)
    assert student(tmp_path / "live-0") != student(tmp_path / "live-1")


def test_half_precision_says_how_far_it_is_off_and_verify_finds_the_same(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    told = json.loads(limbeck("store", "write", path, store, "--json"))
    assert told["signals"]["output"]["codec"] == {"name": "logits"}
    assert 0 < told["error"]["output"]["max"] < 2e-3
    assert told["error"]["output"]["kl"] < 1e-6
    found = json.loads(limbeck("store", "verify", path, store, "--json"))
    assert 0 < found["output"]["max"] < 2e-3
    assert "crop 2" in limbeck("store", "info", store)


def test_a_store_of_other_images_or_another_teacher_is_refused_with_what_differs(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store)
    taught = f"teacher=store:{store}"
    for change, told in {
        "data.views_seed=8": "views.seed 7 here, 8 there",
        "data.augment.crop=1": "views.augment.crop 2 here, 1 there",
        "data.views=2": "views.count 3 here, 2 there",
        "data.train=digits:test": "images.digest",
    }.items():
        result = CliRunner().invoke(main, ["train", str(path), taught, change, "--out", "x"])
        assert result.exit_code == 1
        assert "belongs to another store" in result.output
        assert told in result.output
        assert len(result.output.strip().splitlines()[-1]) < 400
    other = {"teacher.options": "{width: 6, channels: 1}", "teacher.checkpoint": "null"}
    changes = [f"{key}={value}" for key, value in other.items()]
    for command in ("write", "verify"):
        result = CliRunner().invoke(main, ["store", command, str(path), str(store), *changes])
        assert result.exit_code == 1
        assert "weights" in result.output


def test_what_is_kept_in_part_needs_a_loss_that_takes_it(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store, "--keep", "output=topk,k=4")
    taught = f"teacher=store:{store}"
    output = CliRunner().invoke(main, ["train", str(path), taught, "--out", str(tmp_path / "a")])
    assert output.exit_code == 1
    assert "keeps of 'output' only ['output.index'" in output.output
    sparse = {
        "loss": "sparse_kl",
        "theirs": "output.log_p",
        "given": {"index": "teacher:output.index"},
    }
    terms = [{"loss": "truth", "weight": 0.5}, {**sparse, "weight": 0.5}]
    limbeck("train", recipe(tmp_path, objective=terms), taught, "--out", tmp_path / "b")
    terms[1] = terms[1] | {"temperature": 4}
    path = recipe(tmp_path, objective=terms)
    output = CliRunner().invoke(main, ["train", str(path), taught, "--out", str(tmp_path / "c")])
    assert output.exit_code == 1
    assert "keeps outputs at temperature 1, but sparse_kl reads them at 4" in output.output


def test_a_store_that_was_begun_goes_on(tmp_path, monkeypatch):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store, "--keep", "output=float32", "data.views=2")
    merge([place(store)], place(store), shard_bytes=40_000)
    before = sorted(store.glob("shard-*"))
    assert len(before) > 3
    before.pop().unlink()
    (store / "manifest.json").unlink()
    taught = f"teacher=store:{store}"
    output = CliRunner().invoke(main, ["train", str(path), taught, "data.views=2", "--out", "x"])
    assert output.exit_code == 1
    assert "of 4000 rows; limbeck store write goes on where it stopped" in output.output
    asked = []
    answer = Labelling.answer
    monkeypatch.setattr(Labelling, "answer", lambda *a: asked.append(len(a[1])) or answer(*a))
    limbeck("store", "write", path, store, "--keep", "output=float32", "data.views=2")
    assert json.loads(limbeck("store", "info", store, "--json"))["rows"] == 4000
    assert 0 < sum(asked) < 2000, "the teacher is asked for what is missing alone"
    assert all(path.exists() for path in before)


def test_a_plan_says_bytes_and_when_it_pays_and_writes_nothing(tmp_path):
    path = recipe(tmp_path)
    told = json.loads(limbeck("store", "plan", path, "--keep", "output=topk,k=3", "--json"))
    assert told["rows"] == 6000
    assert told["bytes_a_row"]["output"] == 2 + 3 * 2 + 2
    assert told["runs"] == pytest.approx(3 * 2000 / (70 * 64)), "rows over images of all steps"
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == []


def test_a_check_judges_what_is_stored(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store)
    output = limbeck("check", path, f"teacher=store:{store}", code=3)
    assert "the teacher's store's top-1 must be at least" in output
    assert f"stored in {store}" in output


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("output=topq", "did you mean 'topk'"),
        ("output=topk", "needs ['temperature', 'k'"),
        ("output", "must be SIGNAL=CODEC"),
        ("output=topk,k", "must be SIGNAL=CODEC"),
        ("outptu=float32", "did you mean 'output'"),
        ("output=topk,k=50", "k must be in 1 ... 10, got 50"),
    ],
)
def test_a_wrong_codec_is_one_line(tmp_path, kept, message):
    arguments = ["store", "write", str(recipe(tmp_path)), str(tmp_path / "s"), "--keep", kept]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    told = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert message in told[0]
    assert not list((tmp_path / "s").glob("*"))


def test_a_recipe_without_recycled_views_cannot_be_stored(tmp_path):
    arguments = ["store", "write", str(recipe(tmp_path)), str(tmp_path / "s"), "data.views=null"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "data.views: a store needs the number of variations" in result.output


@pytest.mark.slow
def test_two_ranks_share_the_work(tmp_path):
    path, store, alone = recipe(tmp_path), tmp_path / "store", tmp_path / "alone"
    limbeck("store", "write", path, alone, "--keep", "output=float32")
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = ["-m", "limbeck", "store", "write", str(path), str(store), "--keep", "output=float32"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launch, *command], env=environment, check=True, timeout=300)
    told = [json.loads(limbeck("store", "info", place, "--json")) for place in (store, alone)]
    assert told[0]["rows"] == told[1]["rows"] == 6000
    assert told[0]["shards"] == 2
    limbeck("train", path, f"teacher=store:{store}", "--out", tmp_path / "a")
    limbeck("train", path, f"teacher=store:{alone}", "--out", tmp_path / "b")
    assert student(tmp_path / "a") == student(tmp_path / "b")


def test_a_comparison_reads_one_store_for_all_seeds_and_arms(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store)
    out = tmp_path / "compared"
    taught = f"teacher=store:{store}"
    told = json.loads(limbeck("compare", path, taught, "--out", out, "--seeds", "2", "--json"))
    names = [*told["arms"]]
    assert names == ["labels only", "hard pseudo-labels", "distilled"]
    assert "stored in" in (out / "report.html").read_text()
    assert not (out / "teachers").exists()


def test_a_comparison_of_seeds_needs_views_that_all_of_them_see(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store, "seed=0", "data.views_seed=null")
    changes = [f"teacher=store:{store}", "data.views_seed=null"]
    result = CliRunner().invoke(
        main, ["compare", str(path), *changes, "--out", str(tmp_path / "c")]
    )
    assert result.exit_code == 2
    assert "data.views_seed: all seeds read one store" in result.output


def test_drawn_classes_stand_for_all_only_where_the_tail_is_dropped(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store, "--keep", "output=sampled,n=20")
    drawn = {
        "loss": "sparse_kl",
        "theirs": "output.log_weight",
        "given": {"index": "teacher:output.index"},
    }
    terms = [{"loss": "truth"}, drawn]
    taught = f"teacher=store:{store}"
    path = recipe(tmp_path, objective=terms)
    result = CliRunner().invoke(main, ["train", str(path), taught, "--out", str(tmp_path / "a")])
    assert result.exit_code == 1
    assert "keeps drawn classes, which stand for all; set tail: drop" in result.output
    terms[1] = {**drawn, "tail": "drop"}
    limbeck("train", recipe(tmp_path, objective=terms), taught, "--out", tmp_path / "b")


def test_a_run_does_not_go_on_from_another_store(tmp_path):
    path, store = recipe(tmp_path), tmp_path / "store"
    taught, out = f"teacher=store:{store}", tmp_path / "run"
    limbeck("store", "write", path, store)
    train = ["train", path, taught, "train.save_every=10", "--out", out]
    limbeck(*train)
    shutil.rmtree(store)
    limbeck("store", "write", path, store, "--keep", "output=float32")
    result = CliRunner().invoke(main, [*map(str, train), "--resume"])
    assert result.exit_code == 1
    assert "is about something else than the store that this run began with" in result.output


@pytest.mark.parametrize("kept", ["float32", "sampled,n=20"])
def test_verify_fails_where_rows_stand_under_other_samples(tmp_path, kept):
    path, store = recipe(tmp_path), tmp_path / "store"
    limbeck("store", "write", path, store, "--keep", f"output={kept}")
    changed(store, key=lambda keys: np.roll(keys, 700, 0))
    result = CliRunner().invoke(main, ["store", "verify", str(path), str(store)])
    assert result.exit_code == 3
    assert "is not what the teacher says now" in result.output


def changed(store: Path, **how) -> None:
    """Writes the only shard of a store anew, some of its arrays changed; its checksum is right."""
    (first,) = Store(place(store)).shards
    arrays = {name: array.copy() for name, array in first.arrays.items()}
    arrays |= {name: change(arrays[name]) for name, change in how.items()}
    told = {key: first.told[key] for key in ("about", "signals", "error")}
    shutil.rmtree(store)
    store.mkdir()
    write_shard(place(store), first.name, arrays, told)


@pytest.mark.parametrize(
    ("kept", "part"), [("sampled,n=20", "index"), ("head-and-tail,k=2,n=20", "tail")]
)
def test_verify_draws_again_what_was_drawn(tmp_path, kept, part):
    """The same classes whatever the seed of the training; those of other rows are found."""
    path, store = recipe(tmp_path, objective=[{"loss": "truth"}]), tmp_path / "store"
    limbeck("store", "write", path, store, "data.views=1", "--keep", f"output={kept}")
    verify = ["store", "verify", path, store, "data.views=1", "seed=3", "--json"]
    assert json.loads(limbeck(*verify))["output"]["redrawn"] == 0.0
    changed(store, **{f"output/{part}": lambda rows: np.roll(rows, 700, 0)})
    found = json.loads(limbeck(*verify, code=3).splitlines()[0])
    assert 0.1 < found["output"]["redrawn"] <= 1.0
