import pytest
import torch

from limbeck.signals import Batch, Signals, Step, split

SIGNALS = Signals(student={"output": 1, "layer3": 2}, data={"valid.8": 3})


def test_signals_are_read_by_source_and_name() -> None:
    assert SIGNALS.of("student", "layer3") == 2
    assert SIGNALS.read("data:valid.8") == 3


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("studnet:output", "got 'studnet'; did you mean 'student'"),
        ("student:layr3", r"student gives \['layer3', 'output'\], got 'layr3'.*'layer3'"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(address: str, message: str) -> None:
    with pytest.raises(KeyError, match=message):
        SIGNALS.read(address)


@pytest.mark.parametrize("address", ["output", ":output", "student:", ""])
def test_an_address_has_two_parts(address: str) -> None:
    with pytest.raises(ValueError, match="must be 'source:name'"):
        split(address)


def test_the_first_colon_splits() -> None:
    assert split("data:a:b") == ("data", "a:b")


def test_a_step_unpacks() -> None:
    loss, output, parts = Step(torch.tensor(1.0), "output", {"kl": torch.tensor(1.0)})
    assert (float(loss), output, list(parts)) == (1.0, "output", ["kl"])


def test_a_batch_may_come_without_data() -> None:
    assert Batch("inputs").data == {}
