"""Sources of a recipe: who teaches beside a teacher, several of them, and the student itself."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tests.recipe.launches import two_ranks
from tests.recipe.raws import problems, raw, recipe, refused
from tests.train.jobs import equal, saved, timeless
from torch import nn

from limbeck import zoo
from limbeck.check import summary
from limbeck.cli import main
from limbeck.exits import Exits
from limbeck.recipe import (
    assemble,
    check_recipe,
    compare_recipe,
    evaluate_run,
    export_run,
    load,
    read,
    run,
    validate,
)
from limbeck.recipe.arms import DISTILLED, HARD, LABELS, arms_of
from limbeck.recipe.text import dump, parse
from limbeck.report import write_report
from limbeck.sources import Drawn, Ema, Ensemble, Frozen, Past, Prior, Recorded, Routed, View
from limbeck.tasks.task import signals
from limbeck.train.loop import Trainer
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
CNN = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}}
FIT = {"epochs": 2, "batch_size": 6, "lr": 0.05, "log_every": 1}
TRUTH = {"loss": "truth"}
ROUTES = {"teacher": ["ant"], "big": ["cow", "bee"]}
ALL: dict[str, Any] = {
    "big": CNN,
    "slow": {"kind": "ema", "decay": 0.8},
    "past": {"kind": "past"},
    "other": {"kind": "view"},
    "prior": {"kind": "prior", "correct": 0.8},
    "both": {"kind": "ensemble", "of": ["teacher", "slow", "big"], "temperature": 2},
    "one": {"kind": "drawn", "of": ["teacher", "big", "slow"]},
    "home": {"kind": "routed", "of": ROUTES},
}
FRESH = {"the teacher", "the source 'big'", "the source 'home'"}  # of what nobody has trained
READ = [name for name in ALL if name != "big"]
FIRST = {"mask": "data:first"}


def soft(source: str, **more: Any) -> dict[str, Any]:
    return {"loss": "kl", "source": source, "temperature": 2, **more}


def everything(small: Make, **changes: Any) -> dict[str, Any]:
    """All kinds of sources at once, and a student with exits that teach one another."""
    terms = [soft(name) for name in READ if name != "other"] + [soft("other", given=FIRST)]
    given = {
        "data__pairs": "view",
        "data__augment": {"crop": 1, "flip": True},
        "student": {**CNN, "exits": ["0", "3", "6"]},
        "sources": ALL,
        "objective": [{"method": "byot"}, *terms],
        "train": {"epochs": 2, "batch_size": 8, "lr": 0.05, "log_every": 1, "save_every": 1},
    }
    return small(**{**given, **changes})


def built(given: dict[str, Any]) -> Any:
    return assemble(validate(given), Ranks())


# ---- what a recipe may say


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sources": {"a": {"kind": "emaa"}}}, "sources.a: kind must be one of ['ema', 'past', 'view'"),
    ({"sources": {"a": {"kind": "emaa"}}}, "got 'emaa'; did you mean 'ema'?; leave it out for a n"),
    ({"sources": {"a": {"kind": "ema", "decey": 1}}}, "sources.a.decey: no such key; did you mean"),
    ({"sources": {"a": {"kind": "ema", "decay": 1}}}, "sources.a.decay: input should be less than"),
    ({"sources": {"a": {"model": "limbeck.zo:mlp"}}}, "sources.a.model: 'limbeck.zo:mlp' must be"),
    (
        {"sources": {"a": {**CNN, "recrod": True}}},
        "sources.a.recrod: no such key; did you mean 're",
    ),
    ({"sources": {"a": {**CNN, "record": True}}}, "sources.a.record needs data.views"),
    ({"sources": {"a b": {"kind": "past"}}}, "sources.a b: a name must be letters, digits, - and"),
    ({"sources": {"data": {"kind": "past"}}}, "sources.data: 'data' is a source already"),
    ({"sources": {"teacher": {"kind": "past"}}}, "sources.teacher: 'teacher' is a source already"),
    ({"sources": {"a": {"kind": "view"}}}, "sources.a needs pairs of images; set data.pairs: view"),
    (
        {"sources": {"a": {"kind": "drawn", "of": ["techer"]}}},
        "sources.a.of must be sources above it, ['teacher'], got 'techer'; did you mean 'teacher'?",
    ),
    (
        {"sources": {"a": {"kind": "drawn", "of": ["b"]}, "b": {"kind": "past"}}},
        "sources.a.of must be sources above it, ['teacher'], got 'b'",
    ),
    (
        {"sources": {"a": {"kind": "ensemble", "of": ["teacher"], "weights": [0.5]}}},
        "sources.a.weights must be 1 positive numbers that sum to 1, got [0.5]",
    ),
    (
        {"sources": {"a": {"kind": "prior"}}, "data__augment": {"mixup": 0.2}},
        "sources.a needs one class an image; it is for task: classification, without mixup and cut",
    ),
    (
        {"objective__1__source": "slwo", "sources": {"slow": {"kind": "ema"}}},
        "objective.1.source: a source must be one of ['teacher', 'slow', 'student', 'data'], got "
        "'slwo'; did you mean 'slow'?",
    ),
    (
        {"objective__1": {"method": "ebkd", "teachers": ["teacher", "bg"], "truth_weight": 0}},
        "objective.1: a source must be one of ['teacher', 'student', 'data'], got 'bg'",
    ),
    ({"objective__1__given": {"mask": "data:frist"}}, "objective.1.given: data are ['ids', 'targe"),
    ({"objective__1__given": {"maks": "data:first"}}, "got 'maks'; did you mean 'mask'?"),
    (
        {"objective__1__given": {"mask": "first"}},
        "objective.1.given.mask: string should match patt",
    ),
    (
        {"data__pairs": "view", "data__augment": {"crop": 1}, "train__batch_size": 7},
        "train.batch_size must be even where data.pairs makes batches of two halves, got 7",
    ),
    (
        {"data__pairs": "class", "train__batch_size": 6, "train__accumulate": 2},
        "train.batch_size must be even in each of 2 pieces where data.pairs makes batches of two",
    ),
    ({"data__pairs": "view"}, "data.pairs: two views of an image are one without data.augment"),
    ({"data__pairs": "class", "data__views": 1}, "data.pairs needs two views or more of each imag"),
    (
        {"data__pairs": "class", "data__augment": {"cutmix": 1}},
        "data.pairs: mixed images belong to",
    ),
    ({"data__pairs": "clas"}, "data.pairs: input should be 'view', 'class' or 'last', got 'clas'"),
    (
        {"objective__1": {"method": "byot", "truth_weight": 0}},
        "objective.1 reads exits, but the st",
    ),
    (
        {"student__exits": 2, "objective__1": {"method": "byot", "exits": 3, "truth_weight": 0}},
        "objective.1.exits must be the student's 2, got 3; leave it out",
    ),
    ({"teacher__exits": 2}, "teacher.exits: exits are for the student, which they teach"),
]


@each(("changes", "says"), MISTAKES)
def test_a_mistake_is_one_line_that_names_its_key(changes: dict[str, Any], says: str) -> None:
    (message,) = problems(validate, raw(**changes))
    assert says in message


def test_mistakes_of_several_blocks_come_at_once() -> None:
    wrong = raw(
        data__pairs="view",
        train={"batch_size": 5},
        sources={"student": {"kind": "past"}, "a": {"kind": "drawn", "of": ["b"]}},
        objective__1__source="c",
    )
    found = problems(validate, wrong)
    keys = ["sources.student", "sources.a.of", "objective.1.source", "train.batch_size", "data.pa"]
    assert [key in line for key, line in zip(keys, found, strict=True)] == [True] * 5


@each("task", ["multilabel", "regression"])
def test_sources_of_another_task_are_refused(task: str) -> None:
    sources = {
        "a": {"kind": "prior"},
        "b": {"kind": "ensemble", "of": ["teacher"]},
        "c": {"kind": "ensemble", "of": ["teacher"], "mean": "logits"},
    }
    found = problems(
        validate, raw(task=task, sources=sources, data__pairs="class", objective=[TRUTH])
    )
    assert found == [
        "sources.a needs one class an image; it is for task: classification, without mixup and "
        "cutmix",
        f"sources.b.mean: probabilities is wrong for task: {task}; use logits",
        "data.pairs: class needs one class an image; it is for task: classification",
    ]


def test_a_class_map_of_a_source_cannot_merge_what_may_be_true_at_once() -> None:
    source = {**CNN, "class_map": {"a": ["b", "c"]}}
    found = problems(validate, raw(task="multilabel", sources={"big": source}, objective=[TRUTH]))
    assert found[0].startswith("the recipe: sources.big.class_map merges classes")


def test_the_resolved_recipe_is_the_same_recipe(small: Make) -> None:
    made = validate(everything(small))
    assert validate(parse(dump(made), "it")) == made
    assert made.sources["slow"].buffers == "copy"


# ---- what is built


def test_every_kind_becomes_its_source(small: Make) -> None:
    made = built(everything(small))
    sources = made.distiller.sources
    kinds = (Frozen, Frozen, Ema, Past, View, Prior, Ensemble, Drawn, Routed)
    assert list(sources) == ["teacher", *ALL]
    assert [isinstance(s, kind) for s, kind in zip(sources.values(), kinds, strict=True)] == [
        True
    ] * 9
    assert (sources["slow"].average.decay, sources["prior"].correct) == (0.8, 0.8)
    assert (sources["both"].temperature, sources["past"].samples) == (2, 24)
    assert sources["past"].dtype == torch.float16


def test_networks_are_shared_and_what_moves_moves_once_a_step(small: Make) -> None:
    """An average that two sources hold would move twice as fast."""
    sources = built(everything(small)).distiller.sources
    assert sources["both"].sources[0] is sources["teacher"]
    assert sources["home"].sources[1] is sources["big"]
    averages = [sources["slow"], sources["both"].sources[1], sources["one"].sources[2]]
    assert len({id(average) for average in averages}) == 3
    assert all(isinstance(average, Ema) for average in averages)


def test_what_nobody_reads_is_not_made_unless_it_is_a_network(small: Make) -> None:
    made = built(small(sources={"big": CNN, "slow": {"kind": "ema"}, "past": {"kind": "past"}}))
    assert list(made.distiller.sources) == ["teacher", "big"]


def test_two_fresh_networks_of_one_kind_differ(small: Make) -> None:
    sources = built(small(sources={"big": CNN, "wide": CNN})).distiller.sources
    weights = [sources[name].model[10].weight for name in ("teacher", "big", "wide")]
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_route_sends_each_image_to_the_teacher_of_its_class(small: Make) -> None:
    given = small(sources={"big": CNN, "home": {"kind": "routed", "of": ROUTES}})
    given["objective"] = [soft("home"), soft("teacher"), soft("big")]
    made = built(given)
    inputs, data = signals(next(made.loader.epoch(0)), torch.device("cpu"))
    _, found = made.distiller.gather(inputs, data)
    ants = data["target"] == 0
    assert 0 < int(ants.sum()) < 6
    for rows, name in ((ants, "teacher"), (~ants, "big")):
        torch.testing.assert_close(found["home"]["output"][rows], found[name]["output"][rows])


@each(
    ("routes", "says"),
    [
        ({"teacher": ["ant", "bee"]}, "once, ['cow'] in none"),
        ({"teacher": ["ant", "bee", "caw"]}, "once, got 'caw'; did you mean 'cow'?"),
        ({"teacher": ["ant", "bee", "cow", "ant"]}, "once, some are in two"),
    ],
)
def test_routes_have_each_class_once(routes: dict[str, Any], says: str, small: Make) -> None:
    given = small(sources={"home": {"kind": "routed", "of": routes}})
    given["objective"] = [soft("home")]
    message = refused(built, given)
    assert message.startswith("sources.home: of must have each of the data's classes ['ant', 'bee'")
    assert message.endswith(says)


def test_a_route_needs_labels(small: Make) -> None:
    given = small(sources={"big": CNN, "home": {"kind": "routed", "of": ROUTES}}, data__labels=6)
    given["objective"] = [soft("home")]
    assert refused(built(given).rehearse).startswith("a route by class needs a label of every")


def test_a_source_that_does_not_fit_is_named(small: Make) -> None:
    other = {**CNN, "model": f"{__name__}:ten", "options": {}}
    message = refused(built, small(sources={"big": other}))
    assert message.startswith("sources.big: the teacher has 10 classes and the data has 3")


def ten() -> nn.Module:
    return zoo.small_cnn(10, 4, 3)


def test_pairs_of_a_class_need_labels(small: Make) -> None:
    message = refused(built, small(data__pairs="class", data__labels=6))
    assert message.endswith("got 18 without; set data.unlabelled: false")


@each("labels", [None, 6])
def test_labels_alone_have_as_many_steps_of_pairs(labels: int | None, small: Make) -> None:
    given = small(data__pairs="class", data__labels=labels, data__unlabelled=False)
    assert len(built(given).loader) == 24 // 3


@each(
    "entry",
    [
        {"method": "ebkd", "teachers": ["teacher", "big"]},
        {"method": "camkd", "teachers": ["teacher", "big"]},
        {"method": "aekd", "teachers": ["teacher", "big"], "limit": 0.7},
        {"method": "amtml", "teachers": ["teacher", "big"], "features": "2"},
    ],
    ids=lambda entry: entry["method"],
)
def test_methods_of_several_teachers_train(
    entry: dict[str, Any], small: Make, tmp_path: Path
) -> None:
    run(validate(small(sources={"big": CNN}, objective=[entry])), tmp_path / "run")
    lines = [line for line in timeless(tmp_path / "run") if line["kind"] == "train"]
    assert list(lines[-1]["parts"]) == ["truth", entry["method"]]
    assert all(line["parts"][entry["method"]] > 0 for line in lines)


def test_a_method_reads_a_source_that_is_named_teacher(small: Make) -> None:
    sources = {
        "big": CNN,
        "wide": CNN,
        "teacher": {"kind": "ensemble", "of": ["big", "wide"], "temperature": 4},
    }
    given = small(teacher=None, sources=sources, objective=[{"method": "dkd"}])
    assert isinstance(built(given).distiller.sources["teacher"], Ensemble)


# ---- training


class Stops:
    """Ends a training before one of its steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, update = -1, Trainer.update

        def counted(trainer: Trainer, batch: Any) -> Any:
            if trainer.step == self.at:
                raise KeyboardInterrupt
            return update(trainer, batch)

        monkeypatch.setattr(Trainer, "update", counted)


@each(("stop", "accumulate"), [(5, 1), (8, 2)])
def test_every_source_goes_on_to_the_same_bits(
    stop: int, accumulate: int, small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = everything(small)
    given["train"] |= {"accumulate": accumulate, "ema": 0.9}
    made, stops = validate(given), Stops(monkeypatch)
    run(made, tmp_path / "straight")
    stops.at = stop
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "broken")
    stops.at = -1
    torch.manual_seed(5)
    run(made, tmp_path / "broken", resume=True)
    assert equal(saved(tmp_path / "broken"), saved(tmp_path / "straight"))
    assert timeless(tmp_path / "broken") == timeless(tmp_path / "straight")
    kept = saved(tmp_path / "straight")["sources"]
    assert {name for name, state in kept.items() if state} == {"slow", "past", "both", "one"}
    assert int(kept["past"]["step"]) == 12


def test_a_step_moves_each_average_alike(small: Make, tmp_path: Path) -> None:
    run(validate(everything(small)), tmp_path / "run")
    kept = saved(tmp_path / "run")["sources"]
    for name, value in kept["slow"].items():
        assert torch.equal(kept["both"][f"1.{name}"], value)
        assert torch.equal(kept["one"][f"2.{name}"], value)


def test_the_plain_student_ships(small: Make, tmp_path: Path) -> None:
    document = run(validate(everything(small)), tmp_path / "run")
    fresh = zoo.small_cnn(3, 4, 3)
    fresh.load_state_dict(load_file(tmp_path / "run/student.safetensors"), strict=True)
    assert not isinstance(load(tmp_path / "run"), Exits)
    assert document["parameters"] == sum(p.numel() for p in fresh.parameters())
    assert evaluate_run(tmp_path / "run")["top1"] == document["top1"]
    export_run(tmp_path / "run", tmp_path / "ship", onnx=False)
    shipped = load_file(tmp_path / "ship/student.safetensors")
    assert equal(shipped, load_file(tmp_path / "run/student.safetensors"))


def test_exits_leave_the_student_that_begins_as_it_is(small: Make) -> None:
    entry = {"objective": [TRUTH], "teacher": None}
    plain = built(small(student=CNN, **entry)).distiller.student
    with_exits = built(small(student={**CNN, "exits": ["0", "3", "6"]}, **entry)).distiller.student
    assert with_exits.at == ["0", "3", "6"]
    assert equal(dict(with_exits.model.state_dict()), dict(plain.state_dict()))


def test_exits_are_found_or_missed_in_words(small: Make) -> None:
    student = {"model": "limbeck.zoo:resnet20"}
    made = built(small(student={**student, "exits": 2}, objective=[{"method": "byot"}]))
    assert made.distiller.student.at == ["layer1", "layer2", "layer3"]
    message = refused(built, small(student={**student, "exits": 3}))
    assert message.startswith("student.exits: 3 exits were asked for, but places were found for 2")


def test_layers_of_a_student_with_exits_have_their_own_names(small: Make) -> None:
    hint = {"loss": "hint", "at": "3", "project": "conv"}
    given = small(student={**CNN, "exits": ["0", "3", "6"]}, objective=[{"method": "byot"}, hint])
    made = built(given)
    made.rehearse()
    assert "hint[3]" in made.distiller.objective.parts()


def test_fitted_sources_see_the_same_labels_and_begin_differently(
    small: Make, tmp_path: Path
) -> None:
    given = small(
        teacher__fit=FIT,
        sources={
            "big": {**CNN, "fit": FIT},
            "both": {"kind": "ensemble", "of": ["teacher", "big"]},
        },
        objective=[TRUTH, soft("both")],
        data__labels=6,
        seed=3,
    )
    ids: dict[str, set[int]] = {}
    update = Trainer.update

    def noted(trainer: Trainer, batch: Any) -> Any:
        ids.setdefault(trainer.job.run.folder.name, set()).update(batch.ids.tolist())
        return update(trainer, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", noted)
        document = run(validate(given), tmp_path / "run")
        assert len(ids["teacher"]) == 6
        assert ids["teacher"] == ids["big"]
        ids.clear()
        run(validate(given), tmp_path / "run", resume=True)
        assert ids == {}
    folders = [tmp_path / "run" / name for name in ("teacher", "teacher/sources/big")]
    one, two = (load_file(folder / "student.safetensors") for folder in folders)
    assert not torch.equal(one["10.weight"], two["10.weight"])
    assert document["teacher"]["top1"] is not None


def test_an_ensemble_named_teacher_is_evaluated_as_one(small: Make, tmp_path: Path) -> None:
    wide = {**CNN, "record": True}
    sources = {"big": CNN, "wide": wide, "teacher": {"kind": "ensemble", "of": ["big", "wide"]}}
    given = small(teacher=None, sources=sources, objective=[{"method": "kd"}], data__views=1)
    document = run(validate(given), tmp_path / "run")
    assert document["teacher"]["parameters"] == 2 * 1039
    assert document["retention"] == document["top1"] / document["teacher"]["top1"]


def test_the_only_network_is_the_teacher_that_a_student_is_measured_by(
    small: Make, tmp_path: Path
) -> None:
    given = small(teacher=None, sources={"big": CNN, "slow": {"kind": "ema"}})
    given["objective"] = [TRUTH, soft("big"), soft("slow")]
    assert run(validate(given), tmp_path / "run")["teacher"]["parameters"] == 1039


def test_two_ranks_remember_and_average_as_one_process(small: Make, tmp_path: Path) -> None:
    sources = {
        "slow": {"kind": "ema", "decay": 0.7},
        "past": {"kind": "past", "precision": "float32"},
    }
    given = small(
        teacher=None,
        sources=sources,
        objective=[TRUTH, soft("slow"), soft("past")],
        data__pairs="view",
        data__augment={"crop": 1},
        train={"epochs": 2, "batch_size": 8, "lr": 0.05, "threads": 1},
    )
    two = two_ranks(validate(given), tmp_path)
    run(validate(given), tmp_path / "one")
    one = saved(tmp_path / "one")
    assert one["step"] == two["step"] == 12
    assert two["sources"].keys() == {"slow", "past"}
    for name, state in one["sources"].items():
        for key, value in state.items():
            torch.testing.assert_close(two["sources"][name][key], value, rtol=0, atol=1e-5)
    for key, value in one["distiller"].items():
        torch.testing.assert_close(two["distiller"][key], value, rtol=0, atol=1e-6)


# ---- arms


def test_a_student_that_teaches_itself_has_two_arms_and_those_of_its_own(small: Make) -> None:
    own = {
        "smooth": {"objective": [{"loss": "truth", "label_smoothing": 0.1}]},
        "deep supervision": {"objective.0.weight": 0, "objective.0.hint_weight": 0},
    }
    given = small(
        teacher=None,
        student={**CNN, "exits": ["0", "3", "6"]},
        objective=[{"method": "byot"}],
        compare={"arms": own},
    )
    made = arms_of(validate(given))
    assert list(made) == [LABELS, DISTILLED, *own]
    assert made[LABELS].student.exits is None
    assert [(t.loss, t.weight) for t in made[LABELS].objective] == [("truth", 1.0)]
    kept = made["deep supervision"].sum().parts()
    assert kept == ["truth", "truth[exits.0]", "truth[exits.1]"]
    assert made["deep supervision"].student.exits == ["0", "3", "6"]
    for arm in made.values():
        assert validate(parse(dump(arm), "it")) == arm


def test_labels_of_exits_are_no_labels_of_the_plain_student(small: Make) -> None:
    terms = [
        {"loss": "truth", "student": "output.logits", "weight": 0.5},
        {"loss": "truth", "student": "output.exits.0", "name": "exit", "weight": 0.5},
        soft("teacher", student="output.logits", theirs="output"),
    ]
    given = small(student={**CNN, "exits": ["0", "3"]}, objective=terms)
    made = arms_of(validate(given))
    for name, entries in ((LABELS, ["truth"]), (HARD, ["truth", "hard"])):
        arm = made[name]
        assert (arm.student.exits, arm.sum().parts()) == (None, entries)
        assert {signal for whose, signal in arm.sum().needs() if whose == "student"} == {"output"}


def pseudo(*terms: dict[str, Any], **sources: Any) -> Any:
    made = arms_of(recipe(objective=[TRUTH, *terms], sources={"big": CNN, **sources}))[HARD]
    assert validate(parse(dump(made), "it")) == made
    return made


def test_pseudo_labels_are_those_of_whoever_teaches() -> None:
    own = {"past": {"kind": "past"}, "slow": {"kind": "ema"}}
    alone = pseudo(soft("past"), soft("slow", weight=0.3), soft("big", weight=0.2), **own)
    assert [(t.loss, t.source, t.weight) for t in alone.objective[1:]] == [("hard", "big", 0.2)]
    mean = {"both": {"kind": "ensemble", "of": ["teacher", "big"], "mean": "logits"}}
    assert pseudo(soft("both"), **mean).objective[-1].source == "both"
    mixed = {"slow": {"kind": "ema"}, "both": {"kind": "ensemble", "of": ["teacher", "slow"]}}
    assert (
        pseudo(soft("both"), soft("teacher", name="t"), **mixed).objective[-1].source == "teacher"
    )


@each(
    "terms",
    [
        [soft("teacher"), soft("big")],
        [{"method": "camkd", "teachers": ["teacher", "big"], "truth_weight": 0}],
    ],
)
def test_pseudo_labels_of_several_teachers_are_what_their_mean_decides(terms: Any) -> None:
    made = pseudo(*terms, teachers={"kind": "past"})
    assert made.objective[-1].source == "all-teachers"
    block = made.sources["all-teachers"]
    assert (block.of, block.mean) == (["teacher", "big"], "probabilities")


def test_a_comparison_fits_each_teacher_once_a_seed_and_keeps_what_is_recorded(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"alone": {"objective.1.source": "big"}}
    given = small(
        teacher__fit=FIT,
        sources={
            "big": {**CNN, "fit": FIT, "record": True},
            "both": {"kind": "ensemble", "of": ["teacher", "big"]},
        },
        objective=[TRUTH, soft("both")],
        data__views=1,
        compare={"seeds": 1, "arms": own},
    )
    steps: dict[str, int] = {}
    update = Trainer.update

    def noted(trainer: Trainer, batch: Any) -> Any:
        folder = trainer.job.run.folder
        name = str(folder.relative_to(tmp_path))
        steps[name] = steps.get(name, 0) + 1
        return update(trainer, batch)

    monkeypatch.setattr(Trainer, "update", noted)
    document = compare_recipe(validate(given), tmp_path)
    assert list(document["arms"]) == [LABELS, HARD, DISTILLED, "alone"]
    fitted = {name: count for name, count in steps.items() if name.startswith("teachers")}
    assert fitted == {"teachers/seed-0": 8, "teachers/seed-0/sources/big": 8}
    assert {count for name, count in steps.items() if name.startswith("arms")} == {8}
    assert (tmp_path / "teachers/seed-0/record-big.safetensors").is_file()


def test_a_comparison_of_a_student_that_teaches_itself(small: Make, tmp_path: Path) -> None:
    given = small(teacher=None, sources={"past": {"kind": "past"}}, objective=[TRUTH, soft("past")])
    document = compare_recipe(validate(given), tmp_path, 1)
    assert list(document["arms"]) == [LABELS, DISTILLED]
    assert DISTILLED in write_report(tmp_path).read_text()
    runs = [run for arm in document["arms"].values() for run in arm["runs"]]
    assert {(run["steps"], run["images"]) for run in runs} == {(8, 48)}


# ---- the check


def test_the_check_states_what_sources_cost_and_how_good_they_are(small: Make) -> None:
    document = check_recipe(validate(everything(small)))
    json.dumps(document, allow_nan=False)
    assert all("top-1 must be at least 66.67 %" in line for line in document["problems"])
    assert {line.split("'s top-1")[0] for line in document["problems"]} <= FRESH
    assert document["memory"]["past"]["past"] == [
        {"samples": 24, "numbers": 3, "dtype": "float16", "bytes": 24 * 14, "device": "cpu"}
    ]
    assert "past: 24 x 3 half floats, 336 B on the CPU" in summary(document)
    models = document["models"]
    assert list(models) == ["student", "teacher", "big", "slow", "both", "one", "home"]
    assert all(0 <= models[name]["top1"] <= 1 for name in ("student", "teacher", "big"))
    assert (models["big"]["weights"], models["slow"]["weights"]) == ("random", "average")
    assert models["student"]["parameters"] == 1039
    whole = document["memory"]["rule"]["teacher"]
    state = sum(v.numel() * v.element_size() for v in zoo.small_cnn(3, 4, 3).state_dict().values())
    exits = built(everything(small)).distiller.student
    with_exits = sum(v.numel() * v.element_size() for v in exits.state_dict().values())
    assert whole == pytest.approx(2 * state + 3 * with_exits, abs=1)


def test_a_student_that_knows_as_much_as_its_past_is_a_note_and_no_problem(small: Make) -> None:
    sources = {"past": {"kind": "past"}, "slow": {"kind": "ema"}}
    given = small(teacher=None, sources=sources, objective=[TRUTH, soft("past"), soft("slow")])
    document = check_recipe(validate(given))
    assert (document["problems"], document["warnings"]) == ([], [])
    assert document["notes"] == [
        f"kl:{name} is 0 at the start, when {name!r} knows no more than the student"
        for name in sources
    ]


def test_the_check_of_fitted_sources_is_theirs(small: Make) -> None:
    given = small(sources={"big": {**CNN, "fit": FIT}}, objective=[TRUTH, soft("big")])
    document = check_recipe(validate(given))
    assert list(document["fits"]) == ["big"]
    assert document["run"]["fit_seconds"] == document["fits"]["big"]["run"]["seconds"]
    assert document["models"]["big"]["weights"] == "fitted"
    assert "top1" not in document["models"]["big"]
    assert "top1" in document["models"]["teacher"]


def test_a_record_inside_of_a_source_stays_empty_in_a_check(small: Make) -> None:
    sources = {
        "big": {**CNN, "record": True},
        "both": {"kind": "ensemble", "of": ["teacher", "big"]},
    }
    given = small(sources=sources, objective=[TRUTH, soft("both")], data__views=2)
    document = check_recipe(validate(given))
    assert document["memory"]["record"] == 4 * 2 * 24 * 3
    assert 0 <= document["models"]["both"]["top1"] <= 1
    made = built(given).distiller.sources
    assert isinstance(made["big"], Recorded)
    assert made["both"].sources[1] is made["big"]


def test_the_first_half_alone_learns_where_a_term_says_so(small: Make, tmp_path: Path) -> None:
    """CS-KD: cross-entropy and divergence of the first half, which the second half teaches."""
    given = small(
        teacher=None,
        data__pairs="class",
        sources={"other": {"kind": "view"}},
        objective=[{**TRUTH, "given": FIRST}, soft("other", given=FIRST)],
    )
    made = built(given)
    inputs, data = signals(next(made.loader.epoch(0)), torch.device("cpu"))
    parts = made.distiller.eval()(inputs, **data).parts
    first, second = made.distiller.student(made.distiller.reader.adapt(inputs)).chunk(2)
    q, p = (first / 2).log_softmax(1), (second / 2).log_softmax(1)
    assert torch.equal(*data["target"].chunk(2))
    expected = {
        "truth": nn.functional.cross_entropy(first, data["target"][:3]),
        "kl:other": 4 * (p.exp() * (p - q)).sum(1).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value.detach())
    run(validate(given), tmp_path / "run")
    lines = [line for line in timeless(tmp_path / "run") if line["kind"] == "train"]
    assert len(lines) == 2 * 24 // 3


# ---- recipes to own


@each(
    ("scheme", "short"),
    [
        ("self", []),
        ("multi-teacher", ["sources.deep.fit.max_steps=2", "sources.wide.fit.max_steps=2"]),
    ],
)
def test_a_new_recipe_of_each_scheme_trains(scheme: str, short: list[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    made = CliRunner().invoke(main, ["new", str(path), "--scheme", scheme])
    assert (made.exit_code, made.stdout) == (0, f"{path}\n")
    found = read(path, ["train.max_steps=2", *short])
    assert run(found, tmp_path / "run")["split"] == "digits:test"
    assert list(arms_of(found))[-1] in found.compare.arms


@each("scheme", ["self", "multi-teacher"])
def test_what_a_new_recipe_leaves_out_in_comments_is_right_too(scheme: str, tmp_path: Path) -> None:
    """Each line that is commented out is a key, a source or a term that may be put in."""
    path = tmp_path / "mine.yaml"
    assert CliRunner().invoke(main, ["new", str(path), "--scheme", scheme]).exit_code == 0
    text = path.read_text()
    lines = re.sub(r"^( +)# ((?:\w+|- )(?::|\{).*)", r"\1\2", text, flags=re.MULTILINE)
    lines = lines.replace("  pairs: class", "  # pairs: class")
    whole = parse(lines, "it")
    assert len(whole["sources"]) + len(whole["objective"]) > 7
    for k, term in enumerate(whole["objective"]):
        term |= {"name": f"term {k}"} if "loss" in term else {}
    assert validate(whole).sum().parts()
