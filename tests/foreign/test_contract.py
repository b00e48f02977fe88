"""What the spec says is what is done: kinds of answers, layouts, columns, types."""

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.foreign import Spec, function, open_teacher
from limbeck.foreign.layouts import arranged
from limbeck.foreign.logits import as_logits
from limbeck.signals import Batch, Signals

Z = torch.tensor([[2.0, -1.0, 0.5], [0.0, 4.0, -3.0]], dtype=torch.float64)


def said(call, spec, x, *wants, **settings):
    teacher = function(call, spec, **settings)
    return teacher(Batch(x), Signals(), ["output", *wants])


def always(answer):
    return lambda x: answer


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_each_kind_of_answer_gives_logits_of_the_same_probabilities(dtype):
    p = Z.softmax(-1)
    for kind, answer in [
        ("logits", Z),
        ("log_probabilities", p.log()),
        ("probabilities", p),
    ]:
        found = as_logits(answer.to(dtype), kind)
        assert found.dtype == torch.float32
        assert torch.allclose(found.softmax(-1).double(), p, atol=2e-3)
        soft = (found / 4).softmax(-1).double()
        assert torch.allclose(soft, (Z / 4).softmax(-1), atol=2e-3), "at temperature 4, too"
    assert torch.allclose(as_logits(Z.sigmoid().to(dtype), "sigmoid").double(), Z, rtol=5e-3)


@pytest.mark.parametrize("kind", ["log_probabilities", "probabilities", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_certainty_is_finite(kind, dtype):
    answer = torch.tensor([[0.0, 1.0]], dtype=dtype)
    found = as_logits(answer.log() if kind == "log_probabilities" else answer, kind)
    assert found.isfinite().all()
    assert found[0, 0] < -9
    assert found[0, 1] >= 0


def test_probabilities_that_are_none_are_refused_in_every_call():
    spec = Spec("probabilities", 3, "rows")
    with pytest.raises(LimbeckError, match=r"function:.*must be in 0..1, got -3 to 4; say output"):
        said(always(Z.numpy()), spec, torch.zeros(2, 1))


def test_layouts_are_the_same_pixels():
    x = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    assert arranged(x, "NCHW").equal(x)
    assert arranged(x, "NHWC").permute(0, 3, 1, 2).equal(x)
    assert arranged(x, "rows").view(2, 3, 4, 5).equal(x)
    assert arranged(x, "rows_nhwc").view(2, 4, 5, 3).permute(0, 3, 1, 2).equal(x)
    table = torch.zeros(2, 7)
    assert arranged(table, "rows") is table
    with pytest.raises(LimbeckError, match=r"NHWC is for images \(B, C, H, W\), got \(2, 7\)"):
        arranged(table, "NHWC")


def test_feature_maps_of_either_layout_are_those_of_the_student():
    x = torch.rand(2, 3, 4, 5)

    def call(x):
        return {"output": x[:, 0, 0], "map": x, "flat": x[..., 0, 0]}

    found = said(call, Spec("logits", 3, "NHWC"), x, "map", "flat")
    assert found["map"].equal(x)
    assert found["flat"].shape == (2, 4)


def test_one_column_of_a_binary_model_is_the_second_class():
    z = np.array([[1.5], [-2.0]], np.float32)
    expected = torch.tensor([[0.0, 1.5], [0.0, -2.0]])
    for answer in (z, z[:, 0]):
        found = said(always(answer), Spec("logits", 2, "rows"), torch.zeros(2, 1))
        assert found["output"].equal(expected)
    p = 1 / (1 + np.exp(-z))
    found = said(always(p), Spec("sigmoid", 2, "rows"), torch.zeros(2, 1))
    assert torch.allclose(found["output"], expected, atol=1e-6)
    swapped = Spec("logits", ("no", "yes"), "rows")
    found = said(always(z), swapped, torch.zeros(2, 1), order=("yes", "no"))
    assert found["output"].equal(expected.flip(-1))
    with pytest.raises(LimbeckError, match="say output: sigmoid if its one column"):
        said(always(p), Spec("probabilities", 2, "rows"), torch.zeros(2, 1))
    found = said(always(p), Spec("sigmoid", 1, "rows"), torch.zeros(2, 1))
    assert found["output"].shape == (2, 1), "one flag of its own stays one"


def test_columns_are_put_into_the_student_s_order_and_others_left_out():
    spec = Spec("logits", ("cat", "dog", "emu"), "rows")
    found = said(always(Z.numpy()), spec, torch.zeros(2, 1), order=("emu", "cat"))["output"]
    assert found.equal(Z[:, [2, 0]].float())
    with pytest.raises(LimbeckError, match=r"order names 'dig', .*did you mean 'dog'"):
        function(always(Z), spec, order=("dig",))
    with pytest.raises(LimbeckError, match="order needs the names of the teacher's columns"):
        function(always(Z), Spec("logits", 3, "rows"), order=("dog",))


def test_answers_of_another_shape_or_type_are_refused():
    spec, x = Spec("logits", 4, "rows"), torch.zeros(2, 1)
    with pytest.raises(
        LimbeckError, match=r"answer 4 classes .* got shape \(2, 3\); say 3 classes"
    ):
        said(always(Z.numpy()), spec, x)
    with pytest.raises(LimbeckError, match=r"a row for each of 2 samples, got shape \(3, 4\)"):
        said(always(np.zeros((3, 4))), spec, x)
    with pytest.raises(
        LimbeckError, match=r"floating-point numbers, got torch\.int64: hard classes"
    ):
        said(always(np.zeros((2, 4), int)), spec, x)
    with pytest.raises(LimbeckError, match="must answer arrays of numbers, got list"):
        said(always({"output": [["a"], ["b"]]}), spec, x)
    with pytest.raises(LimbeckError, match="takes one tensor, got dict; give inputs="):
        said(always(np.zeros((2, 4))), spec, {"pixels": x})


def test_types_are_cast_but_never_rounded():
    seen = []

    def call(x):
        seen.append(x)
        return np.zeros((len(x), 2))

    spec = Spec("logits", 2, "rows", "uint8")
    said(call, spec, torch.tensor([[0.0, 255.0]]))
    assert seen[0].dtype == np.uint8
    assert seen[0].tolist() == [[0, 255]]
    for x in ([[0.5]], [[-1.0]], [[256.0]]):
        with pytest.raises(LimbeckError, match="leave out what normalises them"):
            said(call, spec, torch.tensor(x))


def test_the_answer_is_its_own_memory():
    memory = np.zeros((2, 3), np.float32)
    first = said(always(memory), Spec("logits", 3, "rows"), torch.zeros(2, 1))["output"]
    memory[:] = 7
    assert not first.any()
    frozen = np.zeros((2, 3), np.float32)
    frozen.flags.writeable = False
    said(always(frozen), Spec("logits", 3, "rows"), torch.zeros(2, 1))["output"].fill_(1)
    assert not frozen.any()


def test_a_spec_says_at_once_what_is_wrong_with_it():
    with pytest.raises(LimbeckError, match=r"output must be one of .*did you mean 'logits'"):
        Spec("logit", 3, "rows")
    with pytest.raises(LimbeckError, match=r"layout must be one of .* got 'nhwcc'; did you"):
        Spec("logits", 3, "nhwcc")
    with pytest.raises(LimbeckError, match="classes must have a name each, got 'a' twice"):
        Spec("logits", ("a", "a"), "rows")
    with pytest.raises(LimbeckError, match=r"classes must be names or how many, got \(\)"):
        Spec("logits", (), "rows")
    spec = Spec("sigmoid", ("a", "b"), "NHWC", "float16")
    assert Spec.from_json(spec.as_json()) == spec


def test_one_word_opens_a_teacher_or_says_what_is_missing():
    spec = Spec("logits", 3, "rows")
    teacher = open_teacher("function:numpy:negative", spec, version="1")
    assert teacher(Batch(Z.float()), Signals(), ["output"])["output"].equal(-Z.float())
    assert teacher.about()["teacher"] == {"kind": "function", "version": "1"}
    with pytest.raises(LimbeckError, match="got 'onx:a'; did you mean 'onnx'"):
        open_teacher("onx:a")
    with pytest.raises(
        LimbeckError, match=r"must be KIND:PATH, got 'teacher\.onnx'; the kinds are"
    ):
        open_teacher("teacher.onnx")
    with pytest.raises(LimbeckError, match="cannot say what it takes and gives"):
        open_teacher("keras:a.keras")
    with pytest.raises(LimbeckError, match=r"takes \['layout', 'unsafe_pickle'\], not 'spec'"):
        open_teacher("sklearn:a.pkl", spec)
    with pytest.raises(LimbeckError, match=r"got 'numpy:nix'"):
        open_teacher("function:numpy:nix", spec)
