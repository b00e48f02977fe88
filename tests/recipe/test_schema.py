"""What a recipe may say: every mistake at once, with what was meant; and the files we ship."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recipe.raws import problems, raw, recipe
from torch import Tensor

from limbeck import losses
from limbeck.data import Augment, Mix
from limbeck.objective import Match, Truth
from limbeck.projectors import conv
from limbeck.recipe import Recipe, read, validate
from limbeck.recipe.names import function, projector
from limbeck.schedules import Cosine, Linear, Scaled

each = pytest.mark.parametrize
ROOT = Path(__file__).parents[2]
HERE = "tests.recipe.test_schema"


def own(s: Tensor, t: Tensor, *, scale: float = 1.0, table: Any = None) -> Tensor:
    """A loss of the reader's own."""
    return scale * (s - t).square().mean()


def test_five_mistakes_are_five_lines_each_with_what_was_meant() -> None:
    wrong = raw(
        train={"epocs": 3},
        objective=[{"loss": "kll"}, {"loss": "kl", "temprature": 4}],
        student__model="torchvision:resnet5O",
        data__labels="many",
    )
    found = problems(validate, wrong)
    assert len(found) == 5
    by_key = dict(line.split(": ", 1) for line in found)
    assert by_key["train.epocs"] == "no such key; did you mean 'epochs'?"
    assert by_key["objective.0"].endswith("got 'kll'; did you mean 'kl'?")
    assert by_key["objective.1"].endswith("got 'temprature'; did you mean 'temperature'?")
    assert by_key["student.model"].endswith("no model 'resnet5O'; did you mean 'resnet50'?")
    assert by_key["data.labels"].endswith("unable to parse string as an integer, got 'many'")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sed": 3}, "sed: no such key; did you mean 'seed'?"),
    ({"data__trian": "x"}, "data.trian: no such key; did you mean 'train'?"),
    ({"data__augment": {"flp": 1}}, "data.augment.flp: no such key; did you mean 'flip'?"),
    ({"teacher__fit": {"epocs": 3}}, "teacher.fit.epocs: no such key; did you mean 'epochs'?"),
    ({"teacher__recrod": True}, "teacher.recrod: no such key; did you mean 'record'?"),
    ({"student__class_map": {}}, "student.class_map: no such key"),
    ({"compare__arm": {}}, "compare.arm: no such key; did you mean 'arms'?"),
    ({"data": {}}, "data.train: is required"),
    ({"student": "limbeck.zoo:mlp"}, "student: input should be a valid dictionary"),
    ({"objective": []}, "objective: list should have at least 1 item"),
    ({"objective": ["truth"]}, "objective.0: input should be a valid dictionary"),
    ({"objective__1": {"weight": 1}}, "objective.1.loss: is required"),
    ({"objective__1__weight": "heavy"}, "objective.1.weight: input should be a valid number"),
    (
        {"objective__1__weight": {"schedule": "linear", "start": 0, "stop": 1, "untl": 1}},
        "objective.1.weight.untl: no such key; did you mean 'until'?",
    ),
    (
        {"objective__1__weight": {"schedule": "linear", "start": 0, "stop": 1, "until": 0}},
        "objective.1.weight.until: input should be greater than 0, got 0",
    ),
    ({"objective__1__temperature": "hot"}, "temperature must be a number or a schedule, got 'hot'"),
    ({"objective__1__temperature": True}, "temperature must be a number or a schedule, got True"),
    ({"objective__1__temperature": {"start": 1}}, "temperature must be a number or a schedule"),
    ({"objective__1__temperature": {"schedule": "linear"}}, "temperature.start: field required"),
    ({"objective__1__wieght": 0.5}, "got 'wieght'; did you mean 'weight'?"),
    ({"objective__0__smoothing": 0.1}, "got 'smoothing'; did you mean 'label_smoothing'?"),
    (
        {"objective__1__source": "techer"},
        "objective.1.source: a source must be one of ['teacher', 'student', 'data'], got 'techer'; "
        "did you mean 'teacher'?",
    ),
    ({"objective__1__at": "a", "objective__1__theirs": "b"}, "at names both sides; leave out"),
    ({"objective__0__project": "conv"}, "truth takes logits as they are; leave out project"),
    ({"objective__1__project": "cnv"}, "got 'cnv'; did you mean 'conv'?"),
    ({"objective__1__project": "a.b:c"}, "'a.b:c' must be package.module:name, but No module"),
    ({"objective__1__loss": "limbeck.losses:kll"}, "has no attribute 'kll'"),
    ({"objective__1__loss": "os:sep"}, "'os:sep' must be a function, got str"),
    ({"objective__1__loss": ":kl"}, "':kl' must be package.module:name"),
    ({"teacher__pretrained": [3]}, "teacher.pretrained: input should be a valid boolean, got [3]"),
    ({"teacher__class_map": {"a": 3}}, "teacher.class_map.a: input should be a valid string"),
    ({"teacher__model": "timm:resnet10"}, "did you mean 'resnet10t'?"),
    ({"teacher__model": "limbeck.zo:mlp"}, "did you mean 'limbeck.zoo'?"),
    ({"teacher": None}, "the recipe: the objective asks a teacher, but the recipe has none"),
    ({"teacher__record": True}, "teacher.record needs data.views"),
    ({"train__precision": "bf16"}, "train.precision: input should be 'float32', 'bfloat16' or "),
    ({"train__device": "gpu"}, "train.device: string should match pattern"),
    ({"train__milestones": [0.3]}, "train: milestones and schedule: step go together"),
    ({"version": 2}, "version: input should be 1, got 2"),
    ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
]


@each(("changes", "says"), MISTAKES)
def test_a_mistake_is_one_line_that_names_its_key(changes: dict[str, Any], says: str) -> None:
    (message,) = problems(validate, raw(**changes))
    assert says in message


def test_mistakes_in_two_alternatives_are_reported_inside_of_the_one_that_was_meant() -> None:
    wrong = {"schedule": "linier", "start": "low", "stop": 1}
    found = problems(validate, raw(objective__1__weight=wrong))
    assert [line.split(":")[0] for line in found] == [
        "objective.1.weight.schedule",
        "objective.1.weight.start",
    ]


# ---- what a recipe makes


def test_terms_become_matches() -> None:
    hint = {"loss": "hint", "student": "conv", "theirs": "layer1", "project": "conv", "name": "h"}
    soft = {"loss": "kl", "temperature": {"schedule": "cosine", "start": 4, "stop": 1}}
    ramp = {"schedule": "linear", "start": 0, "stop": 2, "until": 0.5}
    smooth = {"loss": "truth", "label_smoothing": 0.1, "name": "labels"}
    made = recipe(objective=[smooth, {**hint, "weight": ramp}, {**soft, "weight": 3}]).sum()
    (one, label), (moving, feature), (three, logits) = made.weighted()
    assert isinstance(label, Truth)
    assert (label.options, label.name) == ({"label_smoothing": 0.1}, "labels")
    assert (one.setting, three.setting) == (1.0, 3.0)
    assert isinstance(moving.setting, Scaled)
    assert moving.setting.schedule == Linear(0, 2, until=0.5)
    assert isinstance(feature, Match)
    assert (feature.loss, feature.student, feature.theirs) == (losses.hint, "conv", "layer1")
    assert (feature.factory, feature.name) == (conv, "h")
    assert isinstance(logits, Match)
    assert logits.dials["temperature"].setting == Cosine(4, 1)
    assert made.needs()[-2:] == [("student", "output"), ("teacher", "output")]


def test_user_code_is_named_by_module_and_function() -> None:
    term = {"loss": f"{HERE}:own", "scale": 2, "table": {"a": 1}}
    ((_, made),) = recipe(objective=[term]).sum().weighted()
    assert made.parts() == ["own"]
    s, t = torch.ones(2, 3), torch.zeros(2, 3)
    assert float(made.loss(s, t, **made.options)) == 2.0
    assert made.options["table"] == {"a": 1}
    assert function(f"{HERE}:own") is own
    assert projector("limbeck.projectors:linear").__name__ == "linear"


def test_a_term_may_read_the_data_without_a_teacher() -> None:
    term = {"loss": f"{HERE}:own", "source": "data", "theirs": "target"}
    made = recipe(objective=[term], teacher=None).sum()
    assert made.needs() == [("student", "output"), ("data", "target")]


def test_two_parts_of_one_name_are_refused() -> None:
    terms = [{"loss": "kl"}, {"loss": "kl", "temperature": 2}]
    with pytest.raises(ValueError, match=r"names of their own, got \['kl'\] twice; give name="):
        recipe(objective=terms).sum()


def test_augmentation_becomes_what_the_loader_takes() -> None:
    made = recipe(data__augment={"crop": 2, "flip": True, "mixup": 0.2}).data.augment
    assert made.augment() == Augment(crop=2, flip=True)
    assert made.mix() == Mix(0.2, 0.0)
    plain = recipe().data.augment
    assert (plain.augment(), plain.mix()) == (None, None)


def test_a_view_is_the_recipes_word_then_the_weights_then_imagenets() -> None:
    from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess

    own = Preprocess((0.5,), (0.25,), 32)
    block = recipe(student__mean=[0.1], student__image_size=16).student
    assert block.preprocess(own, True) == Preprocess((0.1,), (0.25,), 16, True)
    bare = recipe().student
    assert bare.preprocess(own, False) == Preprocess((0.5,), (0.25,))
    assert bare.preprocess(None, False) == Preprocess(IMAGENET_MEAN, IMAGENET_STD)


# ---- the files that we ship


SHIPPED = [*sorted(ROOT.glob("recipes/*.yaml")), *sorted(ROOT.glob("benchmarks/*.yaml"))]
TEMPLATE = Path(str(files("limbeck.recipe") / "template.yaml"))


@each("path", [*SHIPPED, TEMPLATE], ids=lambda path: path.name)
def test_every_recipe_that_we_ship_is_right(path: Path) -> None:
    made = read(path)
    made.sum()
    assert made.version == 1


def test_the_three_recipes_are_there() -> None:
    names = {path.name for path in SHIPPED}
    assert {"digits.yaml", "cifar10.yaml", "resnet50-mobilenet.yaml"} <= names


def test_the_textbook_is_what_the_literature_says() -> None:
    made = read(ROOT / "recipes/resnet50-mobilenet.yaml")
    terms = [(term.loss, term.weight, term.keywords()) for term in made.objective]
    assert terms == [("truth", 0.5, {}), ("kl", 0.5, {"temperature": 4})]
    assert (made.train.epochs, made.train.schedule) == (100, "step")
    assert made.train.milestones == (0.3, 0.6, 0.9)
    assert made.teacher is not None
    assert (made.teacher.model, made.teacher.pretrained) == (
        "torchvision:resnet50",
        "IMAGENET1K_V1",
    )


def test_the_template_tells_the_truth_about_what_it_leaves_out(tmp_path: Path) -> None:
    """Every commented key is one that exists, with a value that fits."""
    lines = TEMPLATE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("version"))
    keys = [line.replace("# ", "", 1) for line in lines[start:] if is_commented_key(line)]
    assert len(keys) > 15
    checked = "\n".join(
        line.replace("# ", "", 1) if is_commented_key(line) else line for line in lines[start:]
    )
    exclusive = ("    mixup:", "    cutmix:", "    crop:")
    kept = [line for line in checked.splitlines() if not line.startswith(exclusive)]
    path = tmp_path / "everything.yaml"
    path.write_text("\n".join(kept))
    made: Recipe = read(path)
    assert made.data.views == 4
    assert made.train.ema == 0.999
    assert len(made.objective) == 4


def is_commented_key(line: str) -> bool:
    return line.lstrip().startswith("# ") and ":" in line and line.startswith(" ")
