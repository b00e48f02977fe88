"""From a recipe to its objects: what does not fit together is said before the first step."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.conftest import MakePictures
from tests.recipe.raws import refused
from torch import Tensor, nn

from limbeck import zoo
from limbeck.checkpoint import save_weights
from limbeck.models import ClassMap
from limbeck.recipe import Recipe, assemble, validate
from limbeck.recipe.build import doubts, open_splits
from limbeck.sources import Frozen, Recorded
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
HERE = "tests.recipe.test_build"


class Wordy(nn.Module):
    """A model whose output is a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(x.flatten(1))}


def wordy() -> Wordy:
    return Wordy()


def zeros(classes: int) -> nn.Module:
    model = zoo.small_cnn(classes, 4, 3)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def built(raw: dict[str, Any]) -> Any:
    return assemble(validate(raw), Ranks())


def batch(made: Any) -> tuple[Tensor, dict[str, Tensor]]:
    first = next(made.loader.epoch(0))
    return first.images, {"target": first.target, "ids": first.ids, "view": first.view}


def test_a_recipe_becomes_what_it_names(small: Make) -> None:
    made = built(small(data__labels=9, train__threads=1))
    assert [len(part) for part in (made.splits.train, made.splits.valid)] == [24, 9]
    assert made.splits.test is made.splits.valid
    assert len(made.splits.train.labelled) == 9
    assert made.splits.train.classes == ("ant", "bee", "cow")
    inputs, data = batch(made)
    step = made.distiller(inputs, **data)
    assert list(step.parts) == ["truth", "kl"]
    assert step.output.shape == (6, 3)


def test_validation_is_carved_where_it_is_not_given(small: Make) -> None:
    one = open_splits(validate(small(data__valid=None)).data, seed=0)
    other = open_splits(validate(small(data__valid=None)).data, seed=1)
    assert (len(one.train), len(one.valid)) == (21, 3)
    assert torch.equal(one.valid.fetch(torch.arange(3)), other.valid.fetch(torch.arange(3)))


def test_the_same_seed_is_the_same_student(small: Make) -> None:
    torch.manual_seed(5)
    one = built(small()).distiller.student.state_dict()
    torch.manual_seed(6)
    two = built(small()).distiller.student.state_dict()
    other = built(small(seed=1)).distiller.student.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["1.weight"], other["1.weight"])


def test_the_student_does_not_depend_on_its_teacher(small: Make) -> None:
    alone = small(teacher=None, objective=[{"loss": "truth"}])
    one, two = (built(raw).distiller.student.state_dict() for raw in (small(), alone))
    assert all(torch.equal(one[name], two[name]) for name in one)


# ---- classes


def test_another_number_of_classes_names_both(small: Make) -> None:
    message = refused(built, small(teacher__model=f"{HERE}:ten"))
    assert message.startswith("the teacher has 10 classes and the data has 3; give a class_map")
    message = refused(built, small(student__model=f"{HERE}:ten", student__options={}))
    assert message == (
        "the student must answer with the data's 3 classes, got 10; set student.fit_head: true"
    )


def ten(width: int = 4, channels: int = 3) -> nn.Module:
    return zoo.small_cnn(10, width, channels)


def test_another_order_of_classes_names_both(small: Make) -> None:
    message = refused(built, small(teacher__classes=["bee", "ant", "cow"]))
    assert message == "the teacher's class 0 is 'bee' and the data's is 'ant'; give a class_map"


@each(
    ("classes", "class_map", "says"),
    [
        (["fly", "bee"], {"ant": "fly", "bee": "bee"}, "name a teacher class for each of ['cow']"),
        (["fly", "bee"], {"ant": "flie"}, "name a teacher class for each of ['bee', 'cow']"),
        (
            ["fly", "bee", "cow"],
            {"ant": "flyy", "bee": "bee", "cow": "cow"},
            "'flyy', which the teacher does not have; did you mean 'fly'?",
        ),
        (
            ["fly", "bee", "cow"],
            {"ants": "fly", "bee": "bee", "cow": "cow"},
            "'ants', which the data does not have; did you mean 'ant'?",
        ),
        (["fly", "bee", "cow"], {"ant": "fly", "bee": "fly", "cow": "cow"}, "0 is used twice"),
    ],
)
def test_a_class_map_that_does_not_fit_is_one_line(
    classes: list[str], class_map: dict[str, str], says: str, small: Make
) -> None:
    raw = small(teacher__classes=classes, teacher__class_map=class_map)
    assert says in refused(built, raw)


def test_a_class_map_needs_all_classes_of_the_teacher(small: Make) -> None:
    same = {"ant": "ant", "bee": "bee", "cow": "cow"}
    raw = small(teacher__model=f"{HERE}:ten", teacher__class_map=same)
    message = "teacher.classes must name the teacher's 10 classes in order, got 3"
    assert refused(built, raw) == message


def test_a_class_map_reaches_loss_and_evaluation(small: Make) -> None:
    """Four teacher classes, two of them one of the data's, in another order."""
    names = ["cow", "wasp", "ant", "hornet"]
    class_map = {"ant": "ant", "bee": ["wasp", "hornet"], "cow": "cow"}
    made = built(small(teacher__classes=names, teacher__class_map=class_map))
    inputs, data = batch(made)
    source = made.distiller.sources["teacher"]
    assert isinstance(source, Frozen)
    raw = source.model.eval()(source.inputs(inputs))
    assert raw.shape == (6, 4)
    made.distiller.prepare(inputs, **data)
    from limbeck.signals import Batch, Signals

    taught = source(Batch(inputs, data), Signals(), ["output"])["output"]
    expected = ClassMap(((2,), (1, 3), (0,)))(raw)
    assert torch.allclose(taught, expected, atol=1e-6)
    merged = raw.softmax(1)[:, [2, 1, 0]]
    merged[:, 1] += raw.softmax(1)[:, 3]
    assert torch.allclose(taught.softmax(1), merged, atol=1e-6)


def test_classes_of_train_and_validation_must_agree(small: Make, pictures: MakePictures) -> None:
    other = pictures("other", 2, ("ant", "bee", "dog"))
    message = refused(built, small(data__valid=f"folder:{other}"))
    assert "only train has cow, only valid has dog" in message


def test_a_model_that_returns_no_logits_is_one_line(small: Make) -> None:
    for block in ("student", "teacher"):
        raw = small(**{f"{block}__model": f"{HERE}:wordy", f"{block}__options": {}})
        assert "must return logits (images, classes), got a mapping with ['logits']" in refused(
            built, raw
        )


def test_a_model_that_cannot_take_the_images_is_told_what_it_got(small: Make) -> None:
    line = refused(built, small(student__options={"hidden": 4, "channels": 3, "size": 5}))
    assert line.startswith("a model must take images (1, 3, 8, 8), got from it: mat1 and mat2")
    assert line.endswith("; mend its options, mean and std, or image_size")


def test_layers_are_checked_before_the_first_step(small: Make) -> None:
    objective = [{"loss": "hint", "student": "4", "theirs": "8"}]
    assert "must name a module of the model, got '4'" in refused(built, small(objective=objective))


# ---- weights


def test_a_checkpoint_is_loaded_by_path_or_text(small: Make, tmp_path: Path) -> None:
    source = zoo.small_cnn(3, 4, 3)
    save_weights(source, tmp_path / "teacher.safetensors")
    raw = small(teacher__checkpoint=str(tmp_path / "teacher.safetensors"))
    as_path = small(teacher__checkpoint=tmp_path / "teacher.safetensors")
    for given in (raw, as_path):
        found = built(given).distiller.sources["teacher"].model.state_dict()
        expected = load_file(tmp_path / "teacher.safetensors")
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_checkpoint_of_another_shape_says_what_fits(small: Make, tmp_path: Path) -> None:
    save_weights(zoo.small_cnn(10, 4, 3), tmp_path / "a.safetensors")
    message = refused(built, small(teacher__checkpoint=str(tmp_path / "a.safetensors")))
    assert "tensors fit; 10.weight is (10, 8) in the file and (3, 8) in the model" in message


def test_a_checkpoint_of_other_classes_gets_a_fresh_head_on_request(
    small: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = zoo.small_cnn(10, 4, 3)
    save_weights(source, tmp_path / "a.safetensors")
    fitted = {"checkpoint": str(tmp_path / "a.safetensors"), "outputs": 10, "fit_head": True}
    small_cnn = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}}
    with caplog.at_level(logging.INFO, logger="limbeck"):
        made = built(small(student={**small_cnn, **fitted}))
    assert "replaced 10 (10 outputs) by a fresh layer of 3" in caplog.text
    student = made.distiller.student
    assert torch.equal(student[0][0].weight, source[0][0].weight)


def test_a_pickled_checkpoint_is_refused_unless_asked_for_by_name(
    small: Make, tmp_path: Path
) -> None:
    source = zoo.small_cnn(3, 4, 3)
    torch.save(source, tmp_path / "teacher.pt")
    raw = small(teacher__checkpoint=str(tmp_path / "teacher.pt"))
    assert "load it with unsafe_pickle: true if you trust it" in refused(built, raw)
    raw["teacher"]["unsafe_pickle"] = True
    found = built(raw).distiller.sources["teacher"].model
    assert torch.equal(found[10].weight, source[10].weight)


def test_b098_a_teacher_of_zeros_is_refused(small: Make) -> None:
    message = refused(built, small(teacher__model=f"{HERE}:zeros", teacher__options={}))
    assert message == (
        "the teacher's weights must be trained ones, but all 4 weight tensors are zero"
    )


def test_b098_a_teacher_without_weights_is_doubted(small: Make, tmp_path: Path) -> None:
    (doubt,) = doubts(built(small()))
    assert doubt.startswith("the teacher limbeck.zoo:small_cnn has fresh weights, unless")
    save_weights(zoo.small_cnn(3, 4, 3), tmp_path / "a.safetensors")
    assert doubts(built(small(teacher__checkpoint=str(tmp_path / "a.safetensors")))) == []
    assert doubts(built(small(teacher__fit={"epochs": 1}))) == []
    assert doubts(built(small(teacher=None, objective=[{"loss": "truth"}]))) == []


def test_swapped_models_are_doubted(small: Make) -> None:
    large, little = small()["teacher"], small()["student"]
    fit = {"epochs": 1}
    (doubt,) = doubts(built(small(student=large, teacher={**little, "fit": fit})))
    assert doubt == ("the student has 1,039 parameters and its teacher 787: are they swapped?")


def test_a_recorded_teacher_needs_views_and_gets_them(small: Make) -> None:
    made = built(small(teacher__record=True, data__views=2))
    source = made.distiller.sources["teacher"]
    assert isinstance(source, Recorded)
    assert (source.samples, source.views) == (24, 2)


def test_precision_and_layout_of_a_teacher_are_its_own(
    small: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="limbeck"):
        made = built(small(teacher__precision="bfloat16", teacher__channels_last=True))
    assert "teacher in bfloat16: largest logit error" in caplog.text
    teacher = made.distiller.sources["teacher"].model
    assert {p.dtype for p in teacher.parameters()} == {torch.bfloat16}
    assert teacher[3][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert {p.dtype for p in made.distiller.student.parameters()} == {torch.float32}
    inputs, data = batch(made)
    assert made.distiller(inputs, **data).loss.dtype == torch.float32


# ---- batches


def test_labels_alone_take_as_many_steps(small: Make) -> None:
    everything = built(small(data__labels=6))
    alone = built(small(data__labels=6, data__unlabelled=False))
    assert len(everything.loader) == len(alone.loader) == 4
    assert all((b.target >= 0).all() for b in alone.loader.epoch(0))
    assert any((b.target < 0).any() for b in everything.loader.epoch(0))


def test_ranks_share_the_batch_of_the_recipe(small: Make) -> None:
    recipe: Recipe = validate(small())
    shares = [next(assemble(recipe, Ranks(r, 2)).loader.epoch(0)).ids for r in (0, 1)]
    assert torch.equal(torch.cat(shares), next(built(small()).loader.epoch(0)).ids)


def test_threads_are_those_of_the_recipe(small: Make) -> None:
    before = torch.get_num_threads()
    try:
        built(small(train__threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
