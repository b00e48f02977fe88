"""Methods as entries of a recipe: said like their functions, trained like any other objective."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.raws import problems, raw, recipe, refused
from tests.tasks import pictures
from torch import Tensor, nn

from limbeck import Distiller, losses, methods, projectors
from limbeck.check import summary
from limbeck.checkpoint import load_state
from limbeck.methods.contrast import CRD
from limbeck.methods.margins import Overhaul, margins
from limbeck.methods.regression import Regression
from limbeck.objective import Truth
from limbeck.recipe import arms_of, assemble, check_recipe, compare_recipe, run, validate
from limbeck.recipe.arms import DISTILLED, HARD, LABELS
from limbeck.recipe.finished import rebuilt
from limbeck.recipe.keywords import keywords, named
from limbeck.recipe.text import dump, parse
from limbeck.report import write_report
from limbeck.schedules import Linear
from limbeck.train.loop import Trainer
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
CNN = {"model": "limbeck.zoo:small_cnn", "options": {"width": 2, "channels": 3}}
CONTRAST = {"method": "crd", "student": "9", "negatives": 8, "width": 4}
FIT = {"epochs": 2, "batch_size": 6, "lr": 0.05}
RAMP = {"schedule": "linear", "start": 0, "stop": 1, "until": 0.5}
PYTHON = {
    "crosskd": "head is a Python object",
    "ft": "paraphraser is a Python object",
    "jacobian": "both of its models are wrapped",
    "simkd": "the network to ship is not the student alone",
}
UNSAID = {"crd": {"labels"}}  # a tensor that the function can do without


def built(given: dict[str, Any]) -> Any:
    return assemble(validate(given), Ranks())


def parts_of(made: Any, distiller: Distiller) -> dict[str, Tensor]:
    """The parts of a first step, without a trace in the student."""
    first = next(made.loader.epoch(0))
    data = {"target": first.target, "ids": first.ids, "view": first.view}
    distiller.prepare(first.images, **data)
    return distiller.eval()(first.images, **data).parts


def parts_written(folder: Path) -> list[str]:
    """The names of the parts in the last line of a training."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return list([line for line in lines if line["kind"] == "train"][-1]["parts"])


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def only(objective: nn.Module, kind: type[nn.Module]) -> Any:
    (found,) = (module for module in objective.modules() if isinstance(module, kind))
    return found


# ---- what a recipe may say


@each("row", methods.ROWS, ids=lambda row: row.name)
def test_a_recipe_can_say_what_the_function_takes_or_names_the_reason(row: Any) -> None:
    if row.name in PYTHON:
        (line,) = problems(validate, raw(objective=[{"method": row.name}]))
        assert line == (
            f"objective.0.method: a recipe cannot have {row.name}, since {PYTHON[row.name]}; "
            f"call limbeck.methods.{row.name} in Python"
        )
        return
    taken = inspect.signature(getattr(methods, row.name)).parameters
    said = keywords(named(row.name)).model_fields
    assert taken.keys() - said.keys() == UNSAID.get(row.name, set())
    counted = {"samples", "exits", "branches"}
    needed = {name for name, p in taken.items() if p.default is p.empty} - counted
    assert {name for name, field in said.items() if field.is_required()} == needed


def test_a_method_is_what_its_function_returns(small: Make) -> None:
    made = built(small(objective=[{"method": "dkd", "beta": 2.0, "weight": 0.5}]))
    own = methods.dkd(beta=2.0, weight=0.5)
    other = Distiller(made.distiller.reader, made.distiller.sources, own)
    one, two = (parts_of(made, distiller) for distiller in (made.distiller, other))
    assert list(one) == ["truth", "dkd"]
    assert same(one, two)


def test_an_alias_becomes_the_method_and_the_resolved_recipe_is_the_same_recipe() -> None:
    made = recipe(objective=[{"method": "hinton", "weight": RAMP, "temperature": 2}])
    assert made.objective[0].method == "kd"
    assert "method: kd" in dump(made)
    assert validate(parse(dump(made), "it")) == made


def test_numbers_that_may_follow_a_schedule_do() -> None:
    entry = {"method": "kd", "weight": RAMP, "temperature": {**RAMP, "start": 4}}
    (_, truth), (weight, soft) = recipe(objective=[entry]).sum().weighted()
    assert isinstance(truth, Truth)
    assert [weight.setting(progress) for progress in (0.0, 0.25, 1.0)] == [0.0, 0.5, 1.0]
    assert soft.dials["temperature"].setting == Linear(4, 1, until=0.5)


def test_methods_and_losses_add_up() -> None:
    entries = [
        {"method": "at", "student": "4"},
        {"method": "sp", "student": "9", "truth_weight": 0},
        {"loss": "kl", "weight": 0.1},
    ]
    parts = ["truth", "attention[4]", "sp[9]", "kl"]
    assert recipe(objective=entries).sum().parts() == parts


def test_null_is_a_value_where_the_function_takes_none() -> None:
    entry = {"method": "token_kd", "student": "output", "mask": None}
    assert recipe(objective=[entry]).sum().needs()[-1] == ("teacher", "output")


MISTAKES: list[tuple[Any, str]] = [
    ({"method": "dkdd"}, "objective.0.method: method must be one of ['akl', "),
    ({"method": "dkdd"}, ", got 'dkdd'; did you mean 'dkd'?"),
    ({"method": "hintn"}, ", got 'hintn'; did you mean 'hint"),
    ({"method": ["dkd"]}, "objective.0.method: input should be a valid string, got ['dkd']"),
    ({"method": "dkd", "bta": 2}, "objective.0.bta: no such key; did you mean 'beta'?"),
    ({"method": "at"}, "objective.0.student: is required"),
    ({"method": "nst", "student": 4}, "objective.0.student: input should be a valid string, got 4"),
    ({"method": "dkd", "beta": "big"}, "objective.0.beta: input should be a valid number"),
    ({"method": "dkd", "weight": None}, "objective.0.weight: input should be a valid number"),
    ({"method": "dkd", "beta": RAMP}, "objective.0.beta: input should be a valid number"),
    ({"method": "dkd", "weight": {**RAMP, "untl": 1}}, "objective.0.weight.untl: no such key; did"),
    ({"method": "fitnet", "student": "4", "project": "cnv"}, "got 'cnv'; did you mean 'conv'?"),
    ({"method": "reviewkd", "student": "4"}, "objective.0.student: input should be a valid list"),
    ({"method": "fsp", "student": ["4"]}, "objective.0.student.1: is required"),
    ({"method": "reviewkd", "student": []}, "objective.0: reviewkd needs as many stages of both"),
    ({"method": "crd", "student": "9", "momentum": 2}, "objective.0: momentum must be in [0, 1)"),
    ({"method": "crd", "student": "9", "labels": [1]}, "objective.0.labels: no such key; there "),
    ({"method": "ofd", "student": "6"}, "objective.0.norm: is required"),
    ({"method": "kd", "loss": "kl"}, "objective.0: an entry has a loss or a method; leave one of"),
    (
        {"method": "uld"},
        "objective.0: uld reads ['mask'] from the data, which is ['ids', 'target',",
    ),
    ({"method": "uld"}, " in a recipe; use mask: null"),
    ({"method": "fgd", "student": "6", "stride": 8}, "in a recipe; use limbeck.methods.fgd in Py"),
]


@each(("entry", "says"), MISTAKES)
def test_a_mistake_in_a_method_is_one_line(entry: Any, says: str) -> None:
    (line,) = problems(validate, raw(objective=[entry]))
    assert says in line


def test_mistakes_of_all_methods_are_told_at_once() -> None:
    entries = [{"method": "dkd", "bta": 2, "alpha": "x"}, {"method": "fitnt"}, {"loss": "kll"}]
    found = problems(validate, raw(objective=entries, sed=1))
    assert {line.split(":")[0] for line in found} == {
        "objective.0.bta",
        "objective.0.alpha",
        "objective.1.method",
        "objective.2",
        "sed",
    }


BRINGS = "both have a part 'truth'; a method brings its own: set truth_weight: 0 or leave out the"
CLASHES: list[tuple[list[dict[str, Any]], str]] = [
    ([{"loss": "truth"}, {"method": "dkd"}], f"objective.0 and objective.1 {BRINGS} truth"),
    ([{"method": "dkd"}, {"loss": "truth"}], f"objective.0 and objective.1 {BRINGS} truth"),
    ([{"method": "dkd"}, {"method": "sp", "student": "9"}], f" and objective.1 {BRINGS} truth"),
    ([{"method": "kd"}, {"loss": "kl"}], "both have a part 'kl'; give the loss a name of its own"),
]


@each(("entries", "says"), CLASHES)
def test_parts_that_clash_name_both_entries_and_the_cure(
    entries: list[dict[str, Any]], says: str
) -> None:
    (line,) = problems(validate, raw(objective=entries))
    assert says in line


def test_a_clash_is_cured_as_it_says() -> None:
    entries = [{"loss": "truth"}, {"method": "dkd", "truth_weight": 0}]
    assert recipe(objective=entries).sum().parts() == ["truth", "dkd"]
    entries = [{"method": "kd"}, {"loss": "kl", "name": "sharp"}]
    assert recipe(objective=entries).sum().parts() == ["truth", "kl", "sharp"]


def test_a_method_asks_a_teacher_unless_the_student_teaches_itself() -> None:
    (line,) = problems(validate, raw(objective=[{"method": "kd"}], teacher=None))
    assert line == "the recipe: the objective asks a teacher, but the recipe has none"
    own = {"method": "sad", "student": "1", "theirs": "2"}
    assert recipe(objective=[own], teacher=None).sum().parts() == ["truth", "sad[1]:student"]


def test_reading_a_recipe_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    recipe(objective=[{"method": "semckd", "student": ["3", "6"]}])
    assert torch.equal(torch.get_rng_state(), before)


# ---- tasks


@each(
    ("task", "method", "right"),
    [
        ("multilabel", "kd", "binary_kl"),
        ("multilabel", "dkd_ls", "binary_kl"),
        ("multilabel", "ctkd", "binary_kl"),
        ("multilabel", "hard", "binary_hard"),
        ("multilabel", "squared_error", "binary_kl"),
        ("regression", "kd", "squared_error"),
        ("regression", "binary_kl", "squared_error"),
        ("classification", "binary_kl", "kd"),
        ("classification", "squared_error", "kd"),
    ],
)
def test_a_method_of_another_task_is_refused(task: str, method: str, right: str) -> None:
    found = problems(validate, raw(task=task, objective=[{"method": method}]))
    assert found == [f"the recipe: {method} is wrong for task: {task}; use {right}"]


def test_logits_inside_of_a_feature_method_count_as_logits() -> None:
    entry = {"method": "vkd", "student": "9"}
    (line,) = problems(validate, raw(task="multilabel", objective=[entry]))
    assert line == "the recipe: vkd is wrong for task: multilabel; use binary_kl"


@each(
    ("task", "loss"),
    [
        ("classification", losses.cross_entropy),
        ("multilabel", losses.binary_cross_entropy),
        ("regression", losses.squared_error),
    ],
)
def test_the_truth_of_a_method_is_the_tasks(task: str, loss: Any) -> None:
    entry = {"method": "at", "student": "4", "truth_weight": 0.3}
    (weight, truth), (other, _) = recipe(task=task, objective=[entry]).sum().weighted()
    assert isinstance(truth, Truth)
    assert (truth.loss, weight.setting, other.setting) == (loss, 0.3, 15.6)


@each(
    ("task", "entry", "parts"),
    [
        ("multilabel", {"method": "binary_kl"}, ["truth", "binary_kl"]),
        ("multilabel", {"method": "pkt", "student": "2"}, ["truth", "pkt[2]"]),
        ("regression", {"method": "squared_error"}, ["truth", "squared_error"]),
        ("regression", {"method": "sp", "student": "2"}, ["truth", "sp[2]"]),
    ],
)
def test_methods_train_on_several_labels_and_on_numbers(
    task: str, entry: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    given = pictures.recipe(tmp_path, task, objective=[entry])
    given["train"] |= {"epochs": 1}
    given["teacher"]["fit"] |= {"epochs": 1}
    run(validate(given), tmp_path / "run")
    assert parts_written(tmp_path / "run") == parts


# ---- what is built


def test_a_feature_method_trains_its_projector(small: Make, tmp_path: Path) -> None:
    entry = {"method": "fitnet", "student": "3", "theirs": "6", "weight": 1.0}
    normed = {**entry, "project": "limbeck.projectors:normed"}
    made = built(small(student=CNN, objective=[normed]))
    match = next(m for m in made.distiller.matches if not isinstance(m, Truth))
    assert match.factory is projectors.normed
    run(validate(small(student=CNN, objective=[entry])), tmp_path / "run")
    assert parts_written(tmp_path / "run") == ["truth", "hint[3]"]
    state = load_state(tmp_path / "run/checkpoints/last.pt")["distiller"]
    shapes = [tuple(v.shape) for name, v in state.items() if "projector" in name]
    assert (8, 4, 1, 1) in shapes


def test_modules_of_the_teacher_are_found_by_path(small: Make) -> None:
    entries = [
        {"method": "ofd", "student": "6", "norm": "6.1"},
        {"method": "srrl", "student": "7", "classifier": "10", "truth_weight": 0},
    ]
    made = built(small(student=CNN, objective=entries))
    teacher = made.distiller.sources["teacher"].model
    nn.init.normal_(teacher[6][1].bias)
    assert only(made.distiller.objective, Regression).classifier.module is teacher[10]
    before = only(made.distiller.objective, Overhaul).margin
    assert before.shape == (8,)
    assert not torch.equal(before, margins(teacher[6][1]))
    assert list(parts_of(made, made.distiller)) == ["truth", "ofd[6]", "srrl[7]"]


def test_a_fitted_teacher_gives_its_modules_after_it_is_fitted(small: Make, tmp_path: Path) -> None:
    entry = {"method": "ofd", "student": "6", "norm": "6.1"}
    run(validate(small(student=CNN, objective=[entry], teacher__fit=FIT)), tmp_path / "run")
    weights = load_file(tmp_path / "run/teacher/student.safetensors")
    norm = nn.BatchNorm2d(8)
    norm.weight.data, norm.bias.data = weights["6.1.weight"], weights["6.1.bias"]
    assert not torch.equal(norm.bias.detach(), torch.zeros(8))
    found = only(rebuilt(tmp_path / "run").distiller.objective, Overhaul)
    assert torch.equal(found.margin, margins(norm))


@each(
    ("norm", "says"),
    [
        ("6.2", "ofd.norm must be the path of a BatchNorm2d of the teacher, got '6.2'; did you me"),
        ("6.2", "; did you mean '6.1'?"),
        ("6.0", "got '6.0', a Conv2d; did you mean '6.1'?"),
        ("classifier", "got 'classifier'; there are ['0.1', '3.1', '6.1']"),
    ],
)
def test_a_path_that_leads_nowhere_names_close_ones_before_anything_is_written(
    norm: str, says: str, small: Make, tmp_path: Path
) -> None:
    entry = {"method": "ofd", "student": "6", "norm": norm}
    given = validate(small(student=CNN, objective=[entry]))
    assert says in refused(run, given, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_number_of_images_is_filled_in_unless_it_is_said(small: Make) -> None:
    found = [
        only(built(small(objective=[entry], student=CNN)).distiller.objective, CRD).draw.samples
        for entry in (CONTRAST, {**CONTRAST, "samples": 30})
    ]
    assert found == [24, 30]


def test_what_trains_besides_the_student_is_drawn_from_the_seed_alone(small: Make) -> None:
    entry = {"method": "semckd", "student": ["3", "6"], "batch": 6}

    def state(seed: int, width: int) -> dict[str, Tensor]:
        given = small(student=CNN, objective=[entry], seed=seed, teacher__options__width=width)
        return built(given).distiller.objective.state_dict()

    assert same(state(0, 4), state(0, 8))
    assert not same(state(0, 4), state(1, 4))


# ---- training


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Stops every training before one of its steps, or, at -1, none."""
    chosen = [-1]
    update = Trainer.update

    def stopped(trainer: Trainer, batch: Any) -> Any:
        if trainer.step == chosen[0]:
            raise KeyboardInterrupt
        return update(trainer, batch)

    monkeypatch.setattr(Trainer, "update", stopped)

    def at(step: int) -> None:
        chosen[0] = step

    return at


@each("step", [2, 5])
def test_a_memory_of_samples_resumes_to_the_same_bits(
    step: int, small: Make, tmp_path: Path, stop: Callable[[int], None]
) -> None:
    """Stopped within the first epoch and within the second."""
    given = small(student=CNN, objective=[CONTRAST])
    given["train"] |= {"save_every": 1}
    run(validate(given), tmp_path / "straight")
    stop(step)
    with pytest.raises(KeyboardInterrupt):
        run(validate(given), tmp_path / "broken")
    stop(-1)
    run(validate(given), tmp_path / "broken", resume=True)
    folders = (tmp_path / "straight", tmp_path / "broken")
    students = [load_file(folder / "student.safetensors") for folder in folders]
    states = [load_state(folder / "checkpoints/last.pt")["distiller"] for folder in folders]
    assert same(*students)
    assert same(*states)
    memories = [name for name in states[0] if name.endswith(("memory_s", "memory_t"))]
    assert [tuple(states[0][name].shape) for name in memories] == [(24, 4)] * 2


def test_another_keyword_is_another_run(small: Make, tmp_path: Path) -> None:
    run(validate(small(objective=[{"method": "kd"}])), tmp_path / "run")
    run(validate(small(objective=[{"method": "hinton"}])), tmp_path / "run", resume=True)
    other = validate(small(objective=[{"method": "kd", "temperature": 2}]))
    found = problems(run, other, tmp_path / "run", resume=True)
    assert found[1:] == ["objective.0.temperature: None became 2"]


def test_a_recorded_teacher_teaches_a_method_the_same(small: Make, tmp_path: Path) -> None:
    entry = {"method": "srrl", "student": "7", "classifier": "10"}
    for record in (False, True):
        given = small(student=CNN, objective=[entry], teacher__record=record, data__views=1)
        run(validate(given), tmp_path / str(record))
    one, two = (load_file(tmp_path / name / "student.safetensors") for name in ("False", "True"))
    assert same(one, two)


def test_check_and_report_show_the_parts_of_a_method(small: Make, tmp_path: Path) -> None:
    given = validate(small(student=CNN, objective=[CONTRAST]))
    document = check_recipe(given)
    assert [(row["name"], row["weight"]) for row in document["terms"]] == [
        ("truth", 1.0),
        ("crd[9]", 0.8),
    ]
    assert "crd[9]" in summary(document)
    run(given, tmp_path / "run")
    assert "crd[9]" in write_report(tmp_path / "run").read_text()


# ---- comparisons


def shape(made: Any) -> list[tuple[str, Any]]:
    return [(term.loss, term.weight) for term in made.objective]


SP = {"method": "sp", "student": "9"}
KL = {"loss": "kl", "weight": 0.5}
ARMS: list[tuple[list[dict[str, Any]], list[tuple[str, Any]], list[tuple[str, Any]]]] = [
    ([{"method": "kd"}], [("truth", 1.0)], [("truth", 0.5), ("hard", 0.5)]),
    ([SP], [("truth", 1.0)], [("truth", 0.5), ("hard", 0.5)]),
    ([{"method": "logit_mse"}], [("truth", 1.0)], [("hard", 1.0)]),
    (
        [{"loss": "truth", "weight": 0.2}, {**SP, "truth_weight": 0}],
        [("truth", 1.0)],
        [("truth", 0.5), ("hard", 0.5)],
    ),
    ([{**SP, "truth_weight": 0.4}, KL], [("truth", 1.0)], [("truth", 0.4), ("hard", 0.5)]),
    ([{"loss": "truth"}, KL], [("truth", 1.0)], [("truth", 1.0), ("hard", 0.5)]),
]


@each(("entries", "labels", "hard"), ARMS)
def test_arms_without_the_method_keep_the_truth(
    entries: list[dict[str, Any]], labels: Any, hard: Any
) -> None:
    made = arms_of(recipe(objective=entries))
    assert shape(made[LABELS]) == labels
    assert shape(made[HARD]) == hard
    assert made[LABELS].teacher is None
    assert made[DISTILLED] == recipe(objective=entries)
    for arm in made.values():
        assert validate(arm.model_dump(mode="json")) == arm


def test_a_scheduled_truth_keeps_its_schedule_among_pseudo_labels() -> None:
    arm = arms_of(recipe(objective=[{**SP, "truth_weight": RAMP}, KL]))[HARD]
    assert arm.objective[0].weight.made() == Linear(0, 1, until=0.5)


def test_an_arm_of_your_own_sets_a_methods_keyword() -> None:
    own = {"sharp": {"objective.0.temperature": 1}, "other": {"objective.0.method": "lskd"}}
    made = arms_of(recipe(objective=[{"method": "kd"}], compare={"arms": own}))
    assert made["sharp"].objective[0].keywords() == {"temperature": 1}
    assert made["other"].objective[0].method == "lskd"


def test_a_comparison_trains_every_arm_of_a_method(small: Make, tmp_path: Path) -> None:
    given = small(student=CNN, objective=[CONTRAST], teacher__fit=FIT, data__labels=12)
    document = compare_recipe(validate(given), tmp_path, 1)
    assert list(document["arms"]) == [LABELS, HARD, DISTILLED]
    runs = {name: tmp_path / f"arms/{name.replace(' ', '-')}/seed-0" for name in document["arms"]}
    assert {name: parts_written(folder) for name, folder in runs.items()} == {
        LABELS: ["truth"],
        HARD: ["truth", "hard"],
        DISTILLED: ["truth", "crd[9]"],
    }
    steps = {run["steps"] for arm in document["arms"].values() for run in arm["runs"]}
    assert steps == {8}
