"""The command line: one document, one line for an error, an exit code for each way to end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from tests.train.jobs import equal, images, saved, timeless

from limbeck.cli import main
from limbeck.recipe import read, run

each = pytest.mark.parametrize
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def call(*arguments: object) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed is measured by three calls, however short they are; the path is a copy."""
    monkeypatch.setattr("limbeck.evaluate.speed.SECONDS", 0.0)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A folder of real JPEGs and a recipe with everything that a resumed run must bring back."""
    from PIL import Image

    data = images(30)
    for i, (pixels, label) in enumerate(zip(data.pixels, data.labels.tolist(), strict=True)):
        folder = tmp_path / "pictures" / data.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{i}.jpg", quality=95)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "data": {
                    "train": f"folder:{tmp_path / 'pictures'}",
                    "valid": f"folder:{tmp_path / 'pictures'}",
                    "augment": {"resized_crop": [0.5, 1.0], "flip": True},
                    "views": 3,
                },
                "student": {"model": "tests.train.jobs:slow", "mean": [0.5] * 3, "std": [0.25] * 3},
                "teacher": {"model": "tests.train.jobs:wide", "record": True},
                "objective": [
                    {"loss": "truth", "weight": 0.5},
                    {
                        "loss": "kl",
                        "temperature": {"schedule": "linear", "start": 4, "stop": 2},
                        "weight": {"schedule": "cosine", "start": 0.0, "stop": 0.5},
                    },
                    {"loss": "hint", "at": "conv", "project": "conv", "weight": 0.1},
                ],
                "train": {
                    "epochs": 12,
                    "batch_size": 6,
                    "optimizer": "AdamW",
                    "lr": 0.01,
                    "ema": 0.9,
                    "log_every": 1,
                    "save_every": 7,
                    "evaluate_every": 4,
                    "threads": 1,
                },
            }
        )
    )
    return path


# ---- killed and gone on with


def started(recipe: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "limbeck", "train", str(recipe), "--out", str(out), *more]
    return subprocess.Popen(
        [*command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def interrupted(process: subprocess.Popen[str], out: Path, after: int, number: int) -> int:
    """Sends a signal once a checkpoint after that step is there; the exit code."""
    while process.poll() is None and step_of(out) <= after:
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def step_of(out: Path) -> int:
    try:
        return int(saved(out)["step"])
    except FileNotFoundError:
        return -1


def resumed(recipe: Path, tmp_path: Path, stops: Sequence[tuple[int, int]]) -> None:
    """A run that each of `stops` ends is the run that nothing ended."""
    out, more = tmp_path / "broken", []
    for number, code in stops:
        reached = step_of(out)
        process = started(recipe, out, *more)
        assert interrupted(process, out, reached, number) == code
        assert reached < step_of(out) < 60
        more = ["--resume"]
    process = started(recipe, out, *more)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    document = json.loads(stdout)
    straight = tmp_path / "straight"
    expected = run(read(recipe), straight)
    assert equal(saved(out), saved(straight))
    assert timeless(out) == timeless(straight)
    files = [load_file(folder / "student.safetensors") for folder in (out, straight)]
    assert equal(*files)
    for name in ("top1", "nll", "ece", "confusion", "agreement", "fidelity_kl"):
        assert document[name] == expected[name]


def test_killed_after_a_checkpoint_and_resumed_the_student_is_the_same(
    recipe: Path, tmp_path: Path
) -> None:
    """SIGKILL, then SIGTERM: saved and 143; the rest in a third process."""
    resumed(recipe, tmp_path, [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)])


@pytest.mark.slow
def test_interrupted_from_the_keyboard_it_saves_and_goes_on(recipe: Path, tmp_path: Path) -> None:
    resumed(recipe, tmp_path, [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])


# ---- help


LAZY = """
import sys
from click.testing import CliRunner
from limbeck.cli import main
result = CliRunner().invoke(main, sys.argv[1:])
heavy = {"torch", "numpy", "torchvision", "pydantic", "yaml", "tqdm"} & set(sys.modules)
print(result.exit_code, sorted(heavy), len(result.output) > 100)
"""


@each("arguments", [["--help"], ["methods"], ["methods", "kd"], ["train", "-h"], []])
def test_help_and_methods_wait_for_no_framework(arguments: list[str]) -> None:
    assert python(LAZY, *arguments).stdout.split("\n")[-2] == "0 [] True"


def test_help_begins_with_examples_and_lists_every_command() -> None:
    text = call("--help").output
    assert text.index("Examples:") < text.index("Options:") < text.index("Commands:")
    for name in ("new", "check", "train", "evaluate", "compare", "report", "export", "methods"):
        assert f"\n  {name} " in text


def test_methods_are_listed_and_explained() -> None:
    lines = call("methods").output.splitlines()
    assert {line.split()[0] for line in lines} >= {"kd", "fitnet", "at", "rkd", "tinybert"}
    assert "Hinton" in call("methods", "kd").output
    assert call("methods", "hinton").output == call("methods", "kd").output
    wrong = call("methods", "dkdd")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.endswith("got 'dkdd'; did you mean 'dkd'?\n")


# ---- a recipe to own


def test_a_new_recipe_is_right_and_passes_its_check(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    made = call("new", path)
    assert (made.exit_code, made.stdout) == (0, f"{path}\n")
    assert read(path).data.train == "digits:train"
    checked = call("check", path, "--json")
    document = json.loads(checked.stdout)
    assert (checked.exit_code, document["problems"]) == (0, [])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@each(("path", "says"), [("here.yaml", "exists; name another"), ("no/a.yaml", "a folder that ex")])
def test_new_overwrites_nothing_and_makes_no_folder(path: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "here.yaml").write_text("mine")
    made = call("new", tmp_path / path)
    assert (made.exit_code, made.stdout) == (1, "")
    assert says in made.stderr
    assert (tmp_path / "here.yaml").read_text() == "mine"


# ---- exit codes and streams


def test_a_training_prints_one_document_and_logs_elsewhere(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = call("train", recipe, "train.epochs=1", "--out", out, "--json")
    assert made.exit_code == 0, made.output
    document = json.loads(made.stdout)
    assert made.stdout.count("\n") == 1
    assert document == json.loads((out / "evaluation.json").read_text())
    evaluated = call("evaluate", out, "--json")
    assert json.loads(evaluated.stdout)["top1"] == document["top1"]
    told = call("evaluate", out)
    assert told.exit_code == 0
    assert told.stdout.startswith("top-1 ")


def test_a_gate_that_is_not_met_exits_with_3(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call("train", recipe, "train.epochs=1", "--out", out)
    missed = call("evaluate", out, "--min-retention", "99", "--json")
    assert missed.exit_code == 3
    assert json.loads(missed.stdout)["retention"] < 99
    assert missed.stderr.endswith("error: retention is below 99.0\n")
    assert call("evaluate", out, "--min-retention", "0").exit_code == 0


def test_a_comparison_prints_its_verdict_first(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "compared"
    arguments = ["compare", recipe, "train.max_steps=2", "--out", out, "--seeds", "1"]
    made = call(*arguments)
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("no gain shown: distilled against labels only by ")
    assert (out / "report.html").is_file()
    again = call(*arguments, "--json")
    assert json.loads(again.stdout) == json.loads((out / "compare.json").read_text())
    assert json.loads(again.stdout)["recipe"] == recipe.stem


def test_a_report_prints_its_path(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call("train", recipe, "train.max_steps=2", "--out", out)
    made = call("report", out)
    assert (made.exit_code, made.stdout) == (0, f"{out / 'report.html'}\n")


def test_an_export_prints_one_document(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call("train", recipe, "train.max_steps=2", "--out", out)
    made = call("export", out, "--out", tmp_path / "ship", "--no-onnx", "--json")
    assert made.exit_code == 0, made.output
    json.loads(made.stdout)
    shipped = load_file(tmp_path / "ship/student.safetensors")
    assert equal(shipped, load_file(out / "student.safetensors"))


MISUSE: list[tuple[list[str], str]] = [
    (["train"], "Missing argument 'RECIPE'"),
    (["bogus"], "No such command 'bogus'"),
    (["train", "RECIPE", "--bogus"], "No such option"),
    (["train", "none.yaml"], "a recipe must be a file, got none.yaml; limbeck new writes one"),
    (["train", "RECIPE", "train.epocs=3"], "train.epocs: no such key; did you mean 'epochs'?"),
    (["train", "RECIPE", "train.epochs"], "an override must be key=value, got 'train.epochs'"),
    (["check", "RECIPE", "seed=x"], "seed: input should be a valid integer"),
    (["compare", "RECIPE", "--seeds", "0"], "0 is not in the range x>=1"),
    (["train", "RECIPE", "--resume", "--out", "OUT"], "holds no run to resume; leave out --resume"),
    (["compare", "RECIPE", "--arm", "distilled", "--out", "OUT"], "a comparison needs the arms"),
    (["export", "RUN"], "Missing option '--out'"),
]


@each(("arguments", "says"), MISUSE)
def test_misuse_exits_with_2(arguments: list[str], says: str, recipe: Path, tmp_path: Path) -> None:
    names = {"RECIPE": str(recipe), "OUT": str(tmp_path / "out")}
    made = call(*(names.get(argument, argument) for argument in arguments))
    assert (made.exit_code, made.stdout) == (2, "")
    assert says in made.stderr
    assert "Traceback" not in made.stderr


def test_a_recipe_with_several_mistakes_lists_them(recipe: Path) -> None:
    mistakes = ["train.epocs=3", "seed=x", "objective.1.loss=kll", "data.trian=y"]
    made = call("train", recipe, *mistakes)
    assert made.exit_code == 2
    assert len(made.stderr.splitlines()) == 4
    assert made.stderr.startswith("error: ")


FAILURES: list[tuple[list[str], str]] = [
    (["train", "RECIPE", "data.train=folder:none"], "none does not exist"),
    (["train", "RECIPE", "--out", "FULL"], "must be a new folder, but it holds files"),
    (["train", "RECIPE", "train.lr=1e30", "--out", "OUT"], "must stay finite"),
    (["evaluate", "FULL"], "must be a run folder with a student, as limbeck train leaves"),
    (["report", "FULL"], "`folder` must be a run"),
    (["export", "FULL", "--out", "OUT"], "must be a run folder with a student"),
]


@each(("arguments", "says"), FAILURES)
def test_a_failure_is_one_line_and_exits_with_1(
    arguments: list[str], says: str, recipe: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    names = {"RECIPE": str(recipe), "OUT": str(tmp_path / "out"), "FULL": str(full)}
    made = call(*(names.get(argument, argument) for argument in arguments))
    assert (made.exit_code, made.stdout) == (1, "")
    errors = [line for line in made.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in made.stderr
    assert (full / "thesis.txt").read_text() == "mine"


def test_a_traceback_comes_on_request_alone(recipe: Path) -> None:
    made = call("--debug", "train", recipe, "train.epocs=3")
    assert type(made.exception).__name__ == "RecipeError"


def test_code_beside_the_caller_is_found(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A console script has no working folder on its path; `python -m` has."""
    (tmp_path / "own_net.py").write_text("from tests.train.jobs import net as made\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    own = "student.model=own_net:made"
    made = call("train", recipe, own, "train.max_steps=1", "--out", tmp_path / "run")
    assert made.exit_code == 0, made.output


def test_an_interrupt_outside_of_a_training_is_130(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("limbeck.recipe.run", interrupt)
    made = call("train", recipe)
    assert (made.exit_code, made.stdout) == (130, "")
    assert made.stderr.endswith("error: interrupted\n")


# ---- no network


OFFLINE = """
import socket, sys
def refuse(*given, **options):
    raise OSError(f"the network was touched: {given}")
for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
for name in ("getaddrinfo", "create_connection", "gethostbyname"):
    setattr(socket, name, refuse)
from limbeck.cli import main
from pathlib import Path
recipe, out = sys.argv[1:]
for arguments in (
    ["check", recipe, "--json"],
    ["train", recipe, "train.max_steps=3", "--out", out],
    ["evaluate", out],
    ["report", out],
    ["export", out, "--out", out + "-shipped", "--no-onnx"],
    ["compare", recipe, "train.max_steps=2", "--out", out + "-compared", "--seeds", "1"],
    ["train", recipe, "student.model=torchvision:mobilenet_v3_small", "train.max_steps=1",
     "teacher.model=timm:resnet10t", "objective.2={loss: truth, name: again}", "--out", out + "-b"],
):
    try:
        main(arguments)
    except SystemExit as end:
        print(arguments[0], end.code, file=sys.stderr)
"""


@pytest.mark.slow
def test_nothing_touches_the_network(recipe: Path, tmp_path: Path) -> None:
    done = python(OFFLINE, recipe, tmp_path / "run")
    assert "the network was touched" not in done.stderr
    ends = [line for line in done.stderr.splitlines() if line.split()[0] in COMMANDS]
    assert [line for line in ends if not line.startswith("check")] == [
        f"{name} 0" for name in ("train", "evaluate", "report", "export", "compare", "train")
    ]


COMMANDS = ("check", "train", "evaluate", "report", "export", "compare")


def test_a_download_is_named_by_the_recipe_alone(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published weights that are not here are asked for once, and missed in one line."""
    import socket

    def refuse(*given: Any, **options: Any) -> None:
        raise OSError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    teacher = ["teacher.model=torchvision:mobilenet_v3_small", "teacher.pretrained=true"]
    made = call("train", recipe, *teacher, "--out", tmp_path / "run")
    assert made.exit_code == 1
    assert "could not be built: <urlopen error the network was touched>" in made.stderr
    assert not (tmp_path / "run").exists()
