"""Every recipe of `recipes/schemes`, shortened, on real digits."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.raws import problems
from tests.recipe.runs import killed, ranked
from tests.train.jobs import equal, saved, timeless
from torch import nn

from limbeck.models import build
from limbeck.recipe import Recipe, export_run, load, read, run, validate
from limbeck.recipe.chains import links
from limbeck.recipe.networks import Model, Teacher

SCHEMES = sorted(Path(__file__).parents[2].joinpath("recipes/schemes").glob("*.yaml"))
DIGITS = ["data.train=digits:valid", "data.valid=null", "data.test=null"]  # 450 images, and 50
STEPS, KILLED = 10, 9  # an epoch has 7 steps; of 9 that were taken, 8 are in a checkpoint
SHORT = [*DIGITS, f"train.max_steps={STEPS}", "train.batch_size=60", "train.log_every=1"]
SHORT += ["train.save_every=4", "train.threads=1"]
SOON = {"fixmatch": ["objective.0.threshold=0.12"]}  # of what few steps make a student sure
Weights = Callable[[Teacher], Path]
Short = Callable[..., Recipe]
Straight = Callable[[Path], Path]

# One of each kind of state is killed and run on ranks in every test run, the others in the slow.
ALWAYS = {
    "amtml": "what a method trains",
    "crd": "what a method remembers",
    "dgkd": "stages, and who is left out of a step",
    "drawn": "who teaches in a step",
    "kdcl-general": "weights of students",
    "okddip": "attention, which trains",
    "mean-teacher": "an average",
    "ps-kd": "what was said before",
}
# These equal one process in no run of two ranks: docs/ranks.md says why.
DRAWN_ON_EACH_RANK = {"vitkd"}


def every() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", SCHEMES, ids=lambda path: path.stem)


def some() -> pytest.MarkDecorator:
    slow = {path: () if path.stem in ALWAYS else pytest.mark.slow for path in SCHEMES}
    params = [pytest.param(path, id=path.stem, marks=marks) for path, marks in slow.items()]
    return pytest.mark.parametrize("path", params)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The file of a fitted teacher; those of one kind are one."""
    found: dict[str, Path] = {}

    def fitted(block: Teacher) -> Path:
        said = block.model_dump(include={"model", "options", "mean", "std"})
        key = json.dumps(said)
        if key not in found:
            folder = tmp_path_factory.mktemp("teacher")
            data = {"train": "digits:valid"}
            train = {"epochs": 5, "batch_size": 45, "optimizer": "AdamW", "lr": 0.005}
            truth = [{"loss": "truth"}]
            raw = {"data": data, "student": said, "objective": truth, "train": train}
            run(validate(raw), folder)
            found[key] = folder / "student.safetensors"
        return found[key]

    return fitted


@pytest.fixture(scope="session")
def short(weights: Weights) -> Short:
    """A recipe of a few steps, with teachers that are fitted already."""

    def made(path: Path, *more: str) -> Recipe:
        overrides = [*SHORT, *SOON.get(path.stem, []), *more]
        for name, block in read(path).networks().items():
            key = name if name == "teacher" else f"sources.{name}"
            if block.fit is not None:
                overrides += [f"{key}.fit=null", f"{key}.checkpoint={weights(block)}"]
        return read(path, overrides)

    return made


@pytest.fixture(scope="session")
def straight(short: Short, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """The folder of a run that nothing stopped, once for all tests of a scheme."""
    found: dict[Path, Path] = {}

    def folder(path: Path) -> Path:
        if path not in found:
            found[path] = tmp_path_factory.mktemp(path.stem) / "run"
            run(short(path), found[path])
        return found[path]

    return folder


def stages(recipe: Recipe, folder: Path) -> list[Path]:
    """The run folders that a recipe leaves, that of the student last."""
    return [link.folder for link in links(recipe, folder)] if recipe.chain else [folder]


def students(recipe: Recipe) -> dict[str, Model]:
    """The blocks of all students by the name of their file."""
    several = {f"students/{name}": block for name, block in (recipe.students or {}).items()}
    return {"student": recipe.student, **several}


def fresh(block: Model) -> nn.Module:
    """The plain network of a block, without anything that trains it."""
    return build(block.model, classes=10, options=block.options)


def test_the_schemes_that_are_always_tested_are_there() -> None:
    assert {path.stem for path in SCHEMES} >= {*ALWAYS, *SOON, *DRAWN_ON_EACH_RANK}


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (
            "ensemble-per-class",
            "sources.both.weights=[[0.9, 0.9], [0.2, 0.1]]",
            "sources.both.weights of classes must be 2 rows of numbers of at least 0, which sum to",
        ),
        ("ddgsd", "data.pairs=last", "sources.other needs pairs of images; set data.pairs: view"),
        (
            "dlb",
            "train.batch_size=63",
            "train.batch_size must be even where data.pairs makes batch",
        ),
    ],
)
def test_what_a_scheme_cannot_do_without_is_told(name: str, change: str, says: str) -> None:
    (path,) = (path for path in SCHEMES if path.stem == name)
    (message,) = problems(read, path, [change])
    assert message.startswith(says)


# ---- trains and ships


@every()
def test_it_begins_with_what_it_is(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert first[2].isupper()
    assert second == "data:"


@every()
def test_it_trains_and_every_part_teaches(path: Path, straight: Straight) -> None:
    folder = straight(path)
    lines = [line for line in timeless(folder) if line["kind"] == "train"]
    assert lines[-1]["step"] == STEPS
    assert all(math.isfinite(line["loss"]) for line in lines)
    for name in lines[-1]["parts"]:
        assert any(line["parts"][name] > 0 for line in lines), name


@every()
def test_a_plain_student_ships(
    path: Path, short: Short, straight: Straight, tmp_path: Path
) -> None:
    """Each file holds the network that its block says, and nothing that taught it."""
    folder, recipe = straight(path), short(path)
    for name, block in students(recipe).items():
        plain, file = fresh(block), load_file(folder / f"{name}.safetensors")
        assert file.keys() == plain.state_dict().keys()
        plain.load_state_dict(file, strict=True)
    first = load_file(folder / "student.safetensors")
    assert type(load(folder)) is type(fresh(recipe.student))
    assert equal(dict(load(folder).state_dict()), first)
    export_run(folder, tmp_path / "shipped", onnx=False)
    assert equal(load_file(tmp_path / "shipped/student.safetensors"), first)


# ---- killed and gone on with


@some()
def test_killed_and_gone_on_with_it_is_the_run_that_nothing_stopped(
    path: Path, short: Short, straight: Straight, tmp_path: Path
) -> None:
    """SIGKILL in the first stage that has a teacher; one step is lost and taken again."""
    recipe, folder = short(path), tmp_path / "run"
    killed(recipe, folder, KILLED if recipe.chain is None else STEPS + KILLED)
    stopped = [part for part in stages(recipe, folder) if (part / "checkpoints/last.pt").exists()]
    assert saved(stopped[-1])["step"] == KILLED - 1
    run(recipe, folder, resume=True)
    for broken, whole in zip(stages(recipe, folder), stages(recipe, straight(path)), strict=True):
        assert equal(saved(broken), saved(whole))
        assert timeless(broken) == timeless(whole)
    for name in students(recipe):
        file = f"{name}.safetensors"
        assert (folder / file).read_bytes() == (straight(path) / file).read_bytes()


# ---- on two ranks


def alike(recipe: Recipe) -> bool:
    """Whether ranks equal one process: no network that trains has batch statistics."""
    blocks = [*students(recipe).values(), *((recipe.chain and recipe.chain.assistants) or [])]
    return not any(
        isinstance(module, nn.BatchNorm2d) for block in blocks for module in fresh(block).modules()
    )


@some()
def test_two_ranks_hold_one_student_which_is_that_of_one_process(
    path: Path, short: Short, tmp_path: Path
) -> None:
    """By steps without momentum of their own size, since those of AdamW blow up what is rounded."""
    recipe = short(path, "train.optimizer=SGD", "train.lr=0.05")
    first, second = ranked(recipe, tmp_path / "two")
    assert equal(first, second)
    if path.stem in DRAWN_ON_EACH_RANK or not alike(recipe):
        return
    run(recipe, tmp_path / "one")
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    assert one["step"] == two["step"] == STEPS
    for key, value in one["distiller"].items():
        torch.testing.assert_close(two["distiller"][key], value, rtol=0, atol=1e-5)
