"""Consistency of a weak and a strong view in a recipe, and what else belongs to pairs of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recipe.launches import two_ranks
from tests.recipe.raws import problems, raw
from tests.recipe.runs import Steps
from tests.train.jobs import equal, saved, timeless
from torch import nn

from limbeck.check import summary
from limbeck.recipe import assemble, check_recipe, run, validate
from limbeck.recipe.arms import DISTILLED, LABELS, arms_of
from limbeck.recipe.pipeline import fitting
from limbeck.recipe.remembered import fingerprint
from limbeck.recipe.text import dump, parse
from limbeck.sources import Ema, Frozen, Recorded, View
from limbeck.tasks.task import signals
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
CNN = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}}
STRONG = {"crop": 1, "flip": True, "randaugment": [2, 10]}
VIEWS = {
    "of the student": {"view": {"kind": "view"}},
    "of its average": {
        "average": {"kind": "ema", "decay": 0.8},
        "view": {"kind": "view", "of": "average"},
    },
    "of a teacher": {"big": CNN, "view": {"kind": "view", "of": "big"}},
}


def fixmatch(small: Make, **changes: Any) -> dict[str, Any]:
    """Half of the labels, pairs of a weak and a strong view, and a threshold that is passed."""
    given = {
        "teacher": None,
        "data__labels": 12,
        "data__pairs": "view",
        "data__augment": {"crop": 1},
        "data__strong": STRONG,
        "sources": VIEWS["of its average"],
        "objective": [{"method": "fixmatch", "threshold": 0.35}],
        "train": {"epochs": 3, "batch_size": 8, "lr": 0.05, "log_every": 1},
    }
    return small(**{**given, **changes})


def built(given: dict[str, Any]) -> Any:
    return assemble(validate(given), Ranks())


@each("name", VIEWS)
@each("method", ["fixmatch", "uda"])
def test_it_trains_with_whoever_names_the_classes(
    name: str, method: str, small: Make, tmp_path: Path
) -> None:
    entry = {"method": method, "threshold": 0.35}
    folder = tmp_path / "run"
    run(validate(fixmatch(small, sources=VIEWS[name], objective=[entry])), folder)
    lines = [line["parts"] for line in timeless(folder) if line["kind"] == "train"]
    assert {tuple(parts) for parts in lines} == {("truth", method)}
    assert sum(parts[method] for parts in lines) > 0


def test_the_loss_of_a_batch_is_the_papers(small: Make) -> None:
    made = built(fixmatch(small))
    for batch in made.loader.epoch(0):
        inputs, data = signals(batch, torch.device("cpu"))
        made.distiller.advance(0.0)
        parts = made.distiller(inputs, **data).parts
        reader, n = made.distiller.reader, len(inputs) // 2
        strong, weak = reader.model(reader.adapt(inputs)).chunk(2)
        average = made.distiller.sources["view"].sources[0]
        p = average.model(average.inputs(inputs))[n:].softmax(1)
        items = nn.functional.cross_entropy(strong, p.argmax(1), reduction="none")
        torch.testing.assert_close(parts["fixmatch"], (items * (p.amax(1) > 0.35)).sum() / n)
        truth = nn.functional.cross_entropy(weak, data["target"][n:])
        torch.testing.assert_close(parts["truth"], truth.nan_to_num())


def test_a_view_is_of_whom_it_says(small: Make) -> None:
    views = [built(fixmatch(small, sources=s)).distiller.sources["view"] for s in VIEWS.values()]
    assert all(isinstance(view, View) for view in views)
    assert [type(view.sources[0]).__name__ for view in views] == ["Own", "Ema", "Frozen"]
    recorded = {"big": {**CNN, "record": True}, "view": {"kind": "view", "of": "big"}}
    view = built(fixmatch(small, sources=recorded, data__views=2)).distiller.sources["view"]
    assert isinstance(view.sources[0], Recorded)


def test_the_resolved_recipe_is_the_same_recipe(small: Make) -> None:
    made = validate(fixmatch(small))
    assert validate(parse(dump(made), "it")) == made


@each(("stop", "accumulate"), [(7, 1), (9, 2)])
def test_it_goes_on_to_the_same_bits(
    stop: int, accumulate: int, small: Make, tmp_path: Path, steps: Steps
) -> None:
    ramp = {"schedule": "linear", "start": 0.3, "stop": 0.5}
    given = fixmatch(small, objective=[{"method": "fixmatch", "threshold": ramp}])
    given["train"] |= {"accumulate": accumulate, "save_every": 1}
    made = validate(given)
    run(made, tmp_path / "straight")
    steps.taken, steps.stop = 0, stop
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "broken")
    steps.stop = -1
    torch.manual_seed(5)
    run(made, tmp_path / "broken", resume=True)
    assert equal(saved(tmp_path / "broken"), saved(tmp_path / "straight"))
    assert timeless(tmp_path / "broken") == timeless(tmp_path / "straight")


def test_two_ranks_train_as_one_process(small: Make, tmp_path: Path) -> None:
    """The labels and what is sure are unevenly divided; both are counted over all ranks."""
    given = fixmatch(small)
    given["train"] |= {"threads": 1}
    two = two_ranks(validate(given), tmp_path)
    run(validate(given), tmp_path / "one")
    one = saved(tmp_path / "one")
    assert one["step"] == two["step"] == 18
    for name, state in (("distiller", one["distiller"]), ("view", one["sources"]["view"])):
        other = two["distiller"] if name == "distiller" else two["sources"]["view"]
        assert state.keys() == other.keys()
        for key, value in state.items():
            torch.testing.assert_close(other[key], value, rtol=0, atol=1e-6)


# ---- what does not fit


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"data__pairs": "view", "data__augment": {"crop": 1}, "data__strong": {}},
        "data.strong names no variation; add some, or leave it out",
    ),
    (
        {"data__strong": STRONG},
        "data.strong is for the half of a pair that learns; set data.pairs: view",
    ),
    (
        {"data__pairs": "view", "data__strong": STRONG, "data__views": 3},
        "data.views must be even with data.strong, so that a view is always strong or never, got 3",
    ),
    (
        {"data__pairs": "view", "data__strong": {"mixup": 0.2}},
        "data.strong.mixup: no such key",
    ),
    (
        {"objective": [{"method": "fixmatch", "source": "teacher"}]},
        "objective.0: fixmatch needs pairs of images; set data.pairs: view",
    ),
    (
        {
            "data__pairs": "class",
            "sources": {"a": {"kind": "view", "of": "b"}, "b": {"kind": "ema"}},
        },
        "sources.a.of must be sources above it, ['teacher'], got 'b'",
    ),
    (
        {"sources": {"a": {"kind": "past"}}, "data__augment": {"mixup": 0.2}},
        "sources.a remembers what was said of an image, but mixed images are others each time; "
        "leave out mixup and cutmix",
    ),
    (
        {"sources": {"a": {"kind": "past"}}, "data__augment": {"cutmix": 1.0}},
        "sources.a remembers what was said of an image, but mixed images are others each time; "
        "leave out mixup and cutmix",
    ),
]


@each(("changes", "says"), MISTAKES)
def test_a_mistake_is_one_line_that_names_its_key(changes: dict[str, Any], says: str) -> None:
    (message,) = problems(validate, raw(**changes))
    assert says in message


def test_strong_views_alone_are_variation_enough(small: Make) -> None:
    assert built(fixmatch(small, data__augment={})).loader.plan.halves == 2


# ---- what is beside it


def test_the_labels_alone_see_both_views_and_no_other_image(small: Make) -> None:
    arms = arms_of(validate(fixmatch(small)))
    assert list(arms) == [LABELS, DISTILLED]
    labels = arms[LABELS]
    assert validate(parse(dump(labels), "it")) == labels
    assert (labels.data.pairs, labels.data.unlabelled, labels.sources) == ("view", False, {})
    assert labels.sum().parts() == ["truth"]


def test_a_teacher_is_fitted_without_strong_views_or_pairs(small: Make) -> None:
    fit = {"big": {**CNN, "fit": {"epochs": 1}}, "view": {"kind": "view", "of": "big"}}
    recipe = fitting(validate(fixmatch(small, sources=fit)), "big")
    assert recipe is not None
    assert (recipe.data.pairs, recipe.data.strong) == (None, None)
    assert validate(parse(dump(recipe), "it")).data == recipe.data


def test_a_record_of_strong_views_is_one_of_its_own(small: Make) -> None:
    recorded = {"big": {**CNN, "record": True}, "view": {"kind": "view", "of": "big"}}
    given = fixmatch(small, sources=recorded, data__views=2)
    other = fixmatch(small, sources=recorded, data__views=2, data__strong={"crop": 2})
    assert fingerprint(built(given), "big") != fingerprint(built(other), "big")


def test_a_past_of_pairs_remembers_the_mean_of_both_views(small: Make) -> None:
    past = {"past": {"kind": "past", "precision": "float32"}}
    terms = [{"loss": "truth"}, {"loss": "kl", "source": "past"}]
    made = built(fixmatch(small, sources=past, objective=terms))
    distiller, batch = made.distiller, next(made.loader.epoch(0))
    inputs, data = signals(batch, torch.device("cpu"))
    distiller.advance(0.0)
    said = distiller(inputs, **data).output.detach()
    distiller.advance(0.1)
    kept = distiller.sources["past"].records["output"][batch.ids[:4]]
    torch.testing.assert_close(kept, (said[:4] + said[4:]) / 2)


def test_a_check_of_what_is_sure_of_nothing_is_a_note(small: Make) -> None:
    given = fixmatch(small, sources=VIEWS["of the student"], objective=[{"method": "fixmatch"}])
    document = check_recipe(validate(given))
    assert document["problems"] == []
    assert document["notes"] == ["fixmatch is 0 at the start, when 'view' is sure of nothing"]
    assert document["terms"][1]["value"] == 0


# ---- how good those are who teach by turns


def test_a_check_scores_each_that_is_drawn_and_what_is_routed(small: Make) -> None:
    sources = {
        "big": CNN,
        "slow": {"kind": "ema"},
        "one": {"kind": "drawn", "of": ["teacher", "big"]},
        "some": {"kind": "drawn", "of": ["teacher", "slow"]},
        "home": {"kind": "routed", "of": {"teacher": ["ant"], "big": ["cow", "bee"]}},
    }
    terms = [{"loss": "kl", "source": name} for name in ("one", "some", "home")]
    given = small(sources=sources, objective=[{"loss": "truth"}, *terms])
    document = check_recipe(validate(given))
    models, made = document["models"], built(given)
    each_one = [models[name]["top1"] for name in ("teacher", "big")]
    assert models["one"]["members"] == each_one
    assert models["one"]["top1"] == pytest.approx(sum(each_one) / 2)
    assert models["some"]["members"] == [each_one[0], None]
    assert models["some"]["top1"] is None
    assert "one draws from top-1 " in summary(document)
    assert "%, -" in summary(document)
    right, valid = 0, made.splits.valid
    for i, label in enumerate(valid.labels.tolist()):
        teacher = made.distiller.sources["teacher" if label == 0 else "big"]
        assert isinstance(teacher, Frozen)
        assert not isinstance(teacher, Ema)
        with torch.no_grad():
            answer = teacher.model.eval()(teacher.inputs(valid.fetch(torch.tensor([i]))))
        right += int(answer.argmax()) == label
    assert models["home"]["top1"] == pytest.approx(right / len(valid))
