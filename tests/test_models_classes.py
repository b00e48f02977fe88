"""Class maps against hand values, and classes that do not agree."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.models import ClassMap, check_classes

each = pytest.mark.parametrize


def refused(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(LimbeckError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


P = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.0, 0.5]], dtype=torch.float64)


@each("shift", [0.0, -50.0, 1e4])
def test_merged_classes_have_the_sum_of_their_probabilities(shift: float) -> None:
    mapped = ClassMap(((3, 0), (1,), (2,)))(P.log() + shift)
    expected = P.new_tensor([[0.5, 0.2, 0.3], [0.75, 0.25, 0.0]])
    torch.testing.assert_close(mapped.softmax(-1), expected, rtol=0, atol=1e-11)


def test_a_subset_is_renormalised_and_in_order() -> None:
    logits = P.log().reshape(2, 1, 4)
    mapped = ClassMap.from_indices([3, 1])(logits)
    assert torch.equal(mapped, logits[..., [3, 1]])
    expected = P.new_tensor([[[2 / 3, 1 / 3]], [[2 / 3, 1 / 3]]])
    torch.testing.assert_close(mapped.softmax(-1), expected)


def test_a_permutation_moves_logits_and_their_gradients() -> None:
    logits = P.log().clone().requires_grad_()
    permuted = ClassMap.from_indices([2, 0, 3, 1])(logits)
    assert torch.equal(permuted, logits[:, [2, 0, 3, 1]])
    permuted[:, 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.sum(0).tolist() == [0, 0, 2, 0]


THEIRS = ("beagle", "poodle", "siamese", "tabby")


def test_names_become_indices() -> None:
    names = {"dog": ["beagle", "poodle"], "cat": "tabby"}
    assert ClassMap.from_names(names, THEIRS, ("cat", "dog")) == ClassMap(((3,), (0, 1)))


BAD_MAPS: list[tuple[dict[str, Any], str]] = [
    ({"cat": "taby", "dog": "beagle"}, "'taby', which the teacher does not have; did you mean 'ta"),
    ({"kat": "tabby", "dog": "beagle"}, "'kat', which the data does not have; did you mean 'cat'?"),
    ({"cat": "tabby"}, "must name a teacher class for each of ['dog']"),
    ({"cat": "tabby", "dog": []}, "must name a teacher class for each of ['dog']"),
    ({"cat": "tabby", "dog": ["beagle", "tabby"]}, "class 3 is used twice"),
    ({"cat": "crane", "dog": "beagle"}, "'crane', which the teacher has 2 times; map indices"),
]


@each(("names", "says"), BAD_MAPS)
def test_a_map_that_does_not_fit_is_one_line(names: dict[str, Any], says: str) -> None:
    theirs = (*THEIRS, "crane", "crane")
    assert says in refused(ClassMap.from_names, names, theirs, ("cat", "dog"))


@each("groups", [[], [[0], []], [-1, 2], [0, [1, 0]]])
def test_indices_that_do_not_fit_are_one_line(groups: Any) -> None:
    assert refused(ClassMap.from_indices, groups).startswith("class_map must ")


def test_a_map_beyond_the_logits_is_one_line() -> None:
    message = "class_map names teacher class 4, but there are 4"
    assert refused(ClassMap.from_indices([0, 4]), P) == message


def test_classes_that_agree_pass() -> None:
    check_classes(2, ("cat", "dog"))
    check_classes(["cat", "dog"], ("cat", "dog"))
    check_classes(THEIRS, ("cat", "dog"), ClassMap(((3,), (0, 1))))


BAD_CLASSES: list[tuple[Any, ClassMap | None, str]] = [
    (1000, None, "the teacher has 1000 classes and the data has 2"),
    (THEIRS, None, "the teacher has 4 classes and the data has 2"),
    (("dog", "cat"), None, "the teacher's class 0 is 'dog' and the data's is 'cat'"),
    (("cat", "fish"), None, "the teacher's class 1 is 'fish' and the data's is 'dog'"),
    (THEIRS, ClassMap(((0,), (1,), (2,))), "class_map gives 3 classes and the data has 2"),
    (3, ClassMap(((0,), (3,))), "class_map names teacher class 3, but there are 3"),
]


@each(("theirs", "mapping", "says"), BAD_CLASSES)
def test_classes_that_differ_are_named(theirs: Any, mapping: ClassMap | None, says: str) -> None:
    assert says in refused(check_classes, theirs, ("cat", "dog"), mapping)


def test_a_map_is_a_value() -> None:
    assert hash(ClassMap(((0,), (1,)))) == hash(ClassMap.from_indices([0, 1]))
    mapped = ClassMap(((1,), (0,)))(torch.tensor([1.0, 2.0]))
    assert mapped.tolist() == [2.0, 1.0]
