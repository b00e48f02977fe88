"""Readers give any model its signal names; public reports by their ids."""

from collections import OrderedDict, UserDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from tests.networks import Custom, batch, mlp
from torch import Tensor, nn

from limbeck import Distiller, Match, Reader, losses, truth
from limbeck.errors import LimbeckError

X, Y = batch()


class ModelOutput(OrderedDict[str, Any]):
    """Keys are attributes too, as in transformers."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Pair(NamedTuple):
    logits: Tensor
    hidden: list[Tensor]


OUTPUTS = {
    "model output": lambda z: ModelOutput(logits=z, hidden=(2 * z, 3 * z)),
    "named tuple": lambda z: Pair(z, [2 * z, 3 * z]),
    "dict": lambda z: {"logits": z, "hidden": [2 * z, 3 * z]},
    "tuple": lambda z: (z, (2 * z, 3 * z)),
}


def returning(make: Any) -> Custom:
    torch.manual_seed(0)
    return Custom(lambda m, x: make(m.head(x)), head=nn.Linear(4, 3))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_fields_of_every_kind_of_output(kind: str) -> None:
    model = returning(OUTPUTS[kind])
    names = ("0", "1.1") if kind == "tuple" else ("logits", "hidden.1")
    wants = [f"output.{name}" for name in names]
    output, signals = Reader(model).read(X, wants)
    assert type(output) is type(OUTPUTS[kind](X))
    assert torch.equal(signals[wants[0]], model.head(X))
    assert torch.equal(signals[wants[1]], 3 * model.head(X))


def test_a_named_tuple_is_read_by_number_too() -> None:
    _, signals = Reader(returning(OUTPUTS["named tuple"])).read(X, ["output.0", "output.logits"])
    assert torch.equal(signals["output.0"], signals["output.logits"])


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_step_returns_what_the_student_returned(kind: str) -> None:
    field = "output.0" if kind == "tuple" else "output.logits"
    objective = truth(field) + Match(losses.kl, field, "output")
    step = Distiller(returning(OUTPUTS[kind]), mlp(), objective)(X, target=Y)
    step.loss.backward()
    assert type(step.output) is type(OUTPUTS[kind](X))


@pytest.mark.parametrize(
    ("want", "message"),
    [
        ("output", r"'output' must be a tensor, but it is a mapping .*; add a field"),
        ("output.hidden", "must be a tensor, but it is a list of 2; add a field"),
        ("output.logit", r"no field 'logit': it is a mapping with \['hidden', 'logits'\]"),
        ("output.hidden.2", "no field '2': it is a list of 2"),
    ],
)
def test_signals_are_tensors(want: str, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        Reader(returning(OUTPUTS["dict"])).read(X, [want])


def test_names_for_paths_and_functions() -> None:
    names = {
        "hidden": "body",
        "logits": lambda s: s["output"][:, :2],
        "norm": lambda s: s["hidden"].norm(dim=1) + s["output"].sum(1),
    }
    model = mlp()
    output, signals = Reader(model, names=names).read(X, ["hidden", "logits", "norm"])
    hidden = model.body(model.stem(X).relu())
    assert torch.equal(signals["hidden"], hidden)
    assert torch.equal(signals["logits"], output[:, :2])
    assert torch.equal(signals["norm"], hidden.norm(dim=1) + output.sum(1))


def test_a_name_may_stand_for_the_output_itself() -> None:
    _, signals = Reader(mlp(), names={"output": lambda s: -s["output"]}).read(X, ["output"])
    assert torch.equal(signals["output"], -mlp()(X))


def test_a_naming_function_reads_what_was_named() -> None:
    reader = Reader(mlp(), names={"hidden": "body", "odd": lambda s: s["stem"]})
    with pytest.raises(LimbeckError, match=r"may read the output and \['body'\], got 'stem'"):
        reader.read(X, ["odd"])


def test_unknown_names_are_found_before_the_first_forward() -> None:
    with pytest.raises(LimbeckError, match="got 'bodi'; did you mean 'body'"):
        Distiller(
            Reader(mlp(), names={"hidden": "bodi"}), mlp(), 1.0 * Match(losses.hint, "hidden")
        )
    named = Reader(mlp(), names={"hidden": "body"})
    for name, meant in (("hiden", "hidden"), ("bod", "body"), ("outptu", "output")):
        with pytest.raises(LimbeckError, match=f"got '{name}'; did you mean '{meant}'"):
            Distiller(mlp(), named, 1.0 * Match(losses.hint, "body", name))


def test_a_reader_reads_modules() -> None:
    with pytest.raises(TypeError, match=r"a model must be an nn\.Module, got function"):
        Reader(lambda x: x)  # type: ignore[arg-type]


# ---- inputs


@dataclass
class Images:
    x: Tensor
    y: Tensor


ADDING = Custom(lambda m, x, y=0: m.head(x + y), head=nn.Linear(4, 3))


@pytest.mark.parametrize(
    "inputs",
    [X + X, (X, X), {"x": X, "y": X}, OrderedDict(x=X, y=X), UserDict(x=X, y=X), Pair(X, X)],
    ids=["tensor", "tuple", "dict", "ordered", "batch encoding", "named tuple"],
)
def test_b113_inputs_of_every_kind(inputs: Any) -> None:
    step = Distiller(ADDING, ADDING.head, 1.0 * truth())(inputs, target=Y)
    assert torch.equal(step.output, ADDING.head(X + X))


def test_b113_a_frozen_teacher_takes_them_too() -> None:
    teacher = Custom(ADDING.function, head=nn.Linear(4, 3)).double()
    distiller = Distiller(ADDING, teacher, 1.0 * Match(losses.kl))
    first = distiller((X, X)).loss
    for inputs in ({"x": X, "y": X}, UserDict(x=X, y=X), Pair(X, X)):
        assert torch.equal(distiller(inputs).loss, first)


def test_b113_a_list_is_one_argument() -> None:
    model = Custom(lambda m, xs: torch.stack([m.head(x) for x in xs]), head=nn.Linear(4, 3))
    assert Distiller(model, model.head, 1.0 * truth())(list(X), target=Y).output.shape == (6, 3)


def test_b113_anything_else_is_refused_before_the_forward() -> None:
    model = Custom(lambda m, x: pytest.fail("the model ran"), head=nn.Linear(4, 3))
    with pytest.raises(LimbeckError, match="mapping, got Images; unpack it in the reader"):
        Distiller(model, mlp(), 1.0 * truth())(Images(X, Y), target=Y)


def test_b113_an_adapter_unpacks_anything() -> None:
    unpack = lambda images: images.x  # noqa: E731
    student, teacher = Reader(mlp(), inputs=unpack), Reader(mlp(seed=1), inputs=unpack)
    step = Distiller(student, teacher, truth() + Match(losses.kl))(Images(X, Y), target=Y)
    assert torch.equal(step.output, mlp()(X))


def test_b104_teacher_and_student_with_inputs_of_their_own() -> None:
    saw: dict[str, tuple[int, ...]] = {}

    def pooled(who: str) -> Custom:
        def forward(m: nn.Module, x: Tensor) -> Tensor:
            saw[who] = tuple(x.shape)
            return m.head(x.mean((2, 3)))

        return Custom(forward, head=nn.Linear(3, 3))

    both = {"small": torch.rand(2, 3, 32, 32), "large": torch.rand(2, 3, 64, 64)}
    student = Reader(pooled("student"), inputs=lambda b: b["small"])
    teacher = Reader(pooled("teacher"), inputs=lambda b: b["large"])
    Distiller(student, teacher, 1.0 * Match(losses.kl))(both)
    assert saw == {"student": (2, 3, 32, 32), "teacher": (2, 3, 64, 64)}


def test_b104_an_adapter_of_the_teacher_sees_the_raw_inputs() -> None:
    student = Reader(mlp(), inputs=lambda x: x / 255)
    teacher = Reader(mlp(seed=1), inputs=lambda x: x - 1)
    _, signals = Distiller(student, teacher, 1.0 * Match(losses.kl)).gather(255 * X, {})
    assert torch.equal(signals["student"]["output"], mlp()(255 * X / 255))
    assert torch.equal(signals["teacher"]["output"], mlp(seed=1)(255 * X - 1))
