"""The probe finds what is wrong with a teacher, on real digits, and lets a right one pass."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.foreign.digits import NAMES, NCHW, VIEW, Net, digits, net

from limbeck.errors import LimbeckError
from limbeck.foreign import Spec, function, probe

PIXELS, LABELS = digits("valid")


def asked(x):
    with torch.no_grad():
        return net()(torch.from_numpy(x.copy()))


def plain(x):
    return asked(x).numpy()


def teacher(call, spec=NCHW, **settings):
    return function(call, spec, inputs=VIEW, **settings)


def probed(call, spec=NCHW, labels=LABELS, classes=NAMES, **settings):
    return probe(teacher(call, spec, **settings), PIXELS, labels, classes=classes)


CALLS = {
    "logits": plain,
    "log_probabilities": lambda x: asked(x).log_softmax(-1).numpy(),
    "probabilities": lambda x: asked(x).softmax(-1).numpy(),
    "sigmoid": lambda x: asked(x).sigmoid().numpy(),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_right_teacher_passes_with_its_accuracy(kind):
    found = probed(CALLS[kind], Spec(kind, NAMES, "NCHW"))
    assert found.samples == 500
    assert found.accuracy == float(
        (asked(VIEW(PIXELS).numpy()).argmax(-1) == LABELS).float().mean()
    )
    assert found.accuracy > 0.85


def mistaken():
    """Every pair of what is told and what is so, but those that agree or do no harm."""
    pairs = [(told, real) for told in CALLS for real in CALLS if told != real]
    return [pair for pair in pairs if pair != ("logits", "log_probabilities")]


@pytest.mark.parametrize(("told", "real"), mistaken())
def test_answers_of_another_kind_than_was_told_are_found(told, real):
    with pytest.raises(LimbeckError, match=rf"says output: {told}, but .*say output: {real}"):
        probed(CALLS[real], Spec(told, NAMES, "NCHW"))


def test_log_probabilities_are_logits_too():
    assert probed(CALLS["log_probabilities"]).accuracy > 0.85


@pytest.mark.parametrize("half", ["logits", "log_probabilities", "probabilities", "sigmoid"])
def test_half_precision_is_no_other_kind(half):
    call = CALLS[half]
    found = probed(lambda x: call(x).astype(np.float16), Spec(half, NAMES, "NCHW"))
    assert found.accuracy > 0.85


def reads_bytes(x):
    """Takes any bytes for (H, W, C), as a flat buffer is taken."""
    return plain(np.ascontiguousarray(x).reshape(-1, 28, 28, 3).transpose(0, 3, 1, 2))


def test_images_in_the_other_layout_are_found():
    wanted = Spec("logits", NAMES, "NHWC")
    assert probed(reads_bytes, wanted).accuracy > 0.85
    with pytest.raises(
        LimbeckError, match=r"scores 0\.\d+ in layout NCHW and 0\.[89]\d+ in .*NHWC;"
    ):
        probed(reads_bytes)


def test_rows_that_were_flattened_otherwise_are_found():
    wanted = Spec("logits", NAMES, "rows_nhwc")
    assert probed(reads_bytes, wanted).accuracy > 0.85
    with pytest.raises(LimbeckError, match="say layout: rows_nhwc"):
        probed(reads_bytes, Spec("logits", NAMES, "rows"))


def test_a_layout_that_the_model_cannot_take_is_told_with_the_one_that_it_can():
    with pytest.raises(LimbeckError, match=r"cannot be asked in layout NHWC \(.*say layout: NCHW"):
        probed(plain, Spec("logits", NAMES, "NHWC"))


def test_columns_in_another_order_are_found_and_named():
    swapped = [0, 7, 2, 3, 4, 5, 6, 1, 8, 9]
    with pytest.raises(
        LimbeckError, match=r"another order: call its column 1 '7', column 7 '1' in"
    ):
        probed(lambda x: plain(x)[:, swapped])
    rolled = np.roll(np.arange(10), 1)
    with pytest.raises(LimbeckError, match=r"scores 0\.0\d+, and 0\.[89]\d+ .*column 0 '9'"):
        probed(lambda x: plain(x)[:, rolled], Spec("logits", 10, "NCHW"))
    named = Spec("logits", tuple(str(k) for k in rolled), "NCHW")
    assert probed(lambda x: plain(x)[:, rolled], named, order=NAMES).accuracy > 0.85


def test_names_are_compared_before_anything_is_asked():
    def never(x):
        pytest.fail("asked")

    rolled = Spec("logits", (*NAMES[1:], "0"), "NCHW")
    with pytest.raises(
        LimbeckError, match=r"another order: class 0 is '1' there and '0' here; give"
    ):
        probed(never, rolled)
    other = Spec("logits", (*NAMES[:-1], "ten"), "NCHW")
    with pytest.raises(LimbeckError, match="other classes than the data: it lacks 9; name its"):
        probed(never, other)
    more = Spec("logits", (*NAMES, "ten"), "NCHW")
    with pytest.raises(LimbeckError, match="it also has ten; give order="):
        probed(never, more)
    with pytest.raises(LimbeckError, match="has 12 classes, the data has 10"):
        probed(never, Spec("logits", 12, "NCHW"))


def test_another_number_of_columns_is_found():
    with pytest.raises(LimbeckError, match=r"answer 10 classes .* got shape \(500, 9\)"):
        probed(lambda x: plain(x)[:, :9])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_found_with_the_first_sample(bad):
    def call(x):
        logits = plain(x)
        logits[3:7, 2] = bad
        return logits

    with pytest.raises(LimbeckError, match="for 4 of 500 samples, the first is number 3"):
        probed(call)


def test_a_network_in_training_mode_is_found():
    model = Net()
    model.load_state_dict(net().state_dict())
    model.train()
    torch.manual_seed(0)

    def call(x):
        with torch.no_grad():
            return model(torch.from_numpy(x.copy())).numpy()

    with pytest.raises(LimbeckError, match="answers the same samples differently"):
        probed(call)


def test_statistics_of_the_batch_are_found():
    def call(x):
        logits = plain(x)
        return logits - logits.mean(0)

    with pytest.raises(LimbeckError, match="in smaller batches, by up to"):
        probed(call)


def test_chance_is_found():
    torch.manual_seed(0)
    fresh = Net().eval()

    def call(x):
        with torch.no_grad():
            return fresh(torch.from_numpy(x.copy())).numpy()

    with pytest.raises(LimbeckError, match=r"of 500 samples, which is chance \(0.100\)"):
        probed(call)


def test_labels_that_are_withheld_or_flags_are_not_scored():
    some = LABELS.clone()
    some[100:] = -100
    assert probed(plain, labels=some).samples == 100
    assert probed(plain, labels=torch.full_like(LABELS, -100)).accuracy is None
    flags = torch.nn.functional.one_hot(LABELS, 10).float()
    assert probed(CALLS["sigmoid"], Spec("sigmoid", NAMES, "NCHW"), flags).accuracy is None


@dataclass(frozen=True)
class Noisy:
    """Digits under so much noise that the network is often wrong."""

    def __call__(self, pixels):
        generator = torch.Generator().manual_seed(0)
        return VIEW(pixels + 120 * torch.randn(pixels.shape, generator=generator))


def test_a_teacher_that_is_merely_weak_passes():
    found = probe(function(plain, NCHW, inputs=Noisy()), PIXELS, LABELS, classes=NAMES)
    assert 0.2 < found.accuracy < 0.8
