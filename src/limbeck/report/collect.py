"""A run folder or a comparison folder, read into memory; what is missing is noted, not fatal."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from limbeck.errors import LimbeckError
from limbeck.report.history import History, history
from limbeck.report.records import Chain, Comparison, Evaluation, Record

RUN_FILES = ("recipe.yaml", "metrics.jsonl", "evaluation.json")
AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True)
class Run:
    """What a run folder holds; `problems` says what each unusable file lacks."""

    name: str
    evaluation: Evaluation | None
    history: History | None
    recipe: str | None
    environment: dict[str, object]
    problems: dict[str, str]
    chain: Chain | None = None


@dataclass(frozen=True)
class Compared:
    """A comparison and its runs, by arm and seed."""

    name: str
    record: Comparison
    runs: dict[str, dict[int, Run]]
    recipe: str | None
    environment: dict[str, object]

    def history(self, arm: str) -> list[History]:
        """The curves of every seed that has them."""
        return [run.history for run in self.runs[arm].values() if run.history is not None]

    def evaluations(self, arm: str) -> dict[int, Evaluation]:
        """The evaluation of every seed that has one."""
        runs = self.runs[arm].items()
        return {seed: run.evaluation for seed, run in runs if run.evaluation is not None}


def collect(folder: Path) -> Run | Compared:
    """Read `folder`, a comparison if it holds `compare.json`, else a run.

    Raises `LimbeckError` where it is neither.
    """
    if (folder / "compare.json").is_file():
        return read_comparison(folder)
    if any((folder / name).is_file() for name in RUN_FILES):
        return read_run(folder, folder.resolve().name)
    raise LimbeckError(
        "`folder` must be a run (recipe.yaml, metrics.jsonl, evaluation.json) or a comparison "
        f"(compare.json), got {folder}, which {found(folder)}"
    )


def found(folder: Path) -> str:
    """What stands in the place of a run, and what to do about it."""
    if not folder.exists():
        return "does not exist"
    if not folder.is_dir():
        return "is a file; give the folder that holds it"
    if (folder / "arms").is_dir():
        return "is an unfinished comparison; run `limbeck compare` again to finish it"
    if not any(folder.iterdir()):
        return "is empty"
    return "holds none of them; give the folder that `limbeck train` or `limbeck compare` wrote"


def read_comparison(folder: Path) -> Compared:
    """`compare.json` and the run folders that it names."""
    problems: dict[str, str] = {}
    record = parsed(folder / "compare.json", Comparison, problems)
    if record is None:
        raise LimbeckError(f"{folder / 'compare.json'} {problems['compare.json']}")
    runs = {
        name: {
            run.seed: whose(read_run(folder / run.folder, run.folder), run.student)
            for run in arm.runs
        }
        for name, arm in record.arms.items()
    }
    near = [read_run(folder, folder.resolve().name), *runs[record.subject].values()]
    recipe = next((run.recipe for run in near if run.recipe), None)
    environment = next((run.environment for run in near if run.environment), {})
    return Compared(folder.resolve().name, record, runs, recipe, environment)


def whose(run: Run, student: str | None) -> Run:
    """The run as that of one of its students, or of all together."""
    if student is None:
        return run
    evaluation = None if run.evaluation is None else run.evaluation.everyone().get(student)
    history = None if run.history is None else run.history.of(student)
    return replace(run, evaluation=evaluation, history=history)


def read_run(folder: Path, name: str) -> Run:
    """Every file of a run that is there and whole."""
    problems: dict[str, str] = {}
    evaluation = parsed(folder / "evaluation.json", Evaluation, problems)
    metrics = text(folder / "metrics.jsonl", problems)
    recipe = text(folder / "recipe.yaml", problems)
    environment = tree(folder / "environment.json", problems)
    curves = None if metrics is None else history(metrics.splitlines())
    path = folder / "chain.json"
    chain = parsed(path, Chain, problems) if path.is_file() else None
    return Run(name, evaluation, curves, recipe, environment, problems, chain)


def text(path: Path, problems: dict[str, str]) -> str | None:
    """The text of `path`, or a line in `problems`."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        problems[path.name] = "is missing"
    except (OSError, UnicodeDecodeError):
        problems[path.name] = "cannot be read"
    return None


def tree(path: Path, problems: dict[str, str]) -> dict[str, object]:
    """The JSON object in `path`, or nothing and a line in `problems`."""
    found = text(path, problems)
    if found is None:
        return {}
    try:
        value = json.loads(found, parse_constant=lambda _: None)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        problems[path.name] = "is not a JSON object"
        return {}
    return value


def parsed(path: Path, kind: type[AnyRecord], problems: dict[str, str]) -> AnyRecord | None:
    """`path` as a `kind`, or a line in `problems`."""
    value = tree(path, problems)
    if path.name in problems:
        return None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        problems[path.name] = f"is not as expected: {where}: {first['msg']}"
    return None
