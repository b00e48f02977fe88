"""A network answers alike whatever file it came in, and teaches alike."""

import copy
import json
import pickle
import warnings

import numpy as np
import onnx as onnx_package
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from tests.foreign.digits import (
    GREY,
    NAMES,
    NCHW,
    VIEW,
    Both,
    accuracy,
    answers,
    digits,
    net,
    stored,
    student_of,
)

from limbeck.errors import LimbeckError
from limbeck.foreign import Spec, exported, function, onnx, open_teacher, sklearn
from limbeck.signals import Batch, Signals

VALID = slice(0, 200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The network as torch.export, TorchScript and ONNX files, with and without features."""
    out = tmp_path_factory.mktemp("teachers")
    x, size = VIEW(digits()[0][:4]), torch.export.Dim("batch")
    free = ({0: size},)
    torch.export.save(torch.export.export(net(), (x,), dynamic_shapes=free), out / "net.pt2")
    torch.export.save(torch.export.export(Both(net()).eval(), (x,)), out / "both4.pt2")
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(net(), x).save(out / "net.pt")
    options = {"dynamo": True, "verbose": False, "external_data": False}
    torch.onnx.export(net(), (x,), out / "net.onnx", dynamic_shapes=free, **options)
    names = ["body", "logits"]
    torch.onnx.export(Both(net()).eval(), (x,), out / "both4.onnx", output_names=names, **options)
    return out


@pytest.fixture(scope="module")
def forest():
    """A classifier of scikit-learn that is sure of some digits: it gives them probability 0."""
    pixels, labels = digits()
    return RandomForestClassifier(30, random_state=0).fit(rows(pixels), labels)


@pytest.fixture(scope="module")
def logistic():
    pixels, labels = digits()
    model = LogisticRegression(C=0.01, max_iter=500)
    return model.fit(rows(pixels), [f"d{label}" for label in labels.tolist()])


def rows(pixels):
    return GREY(pixels).flatten(1).numpy()


def live():
    with torch.no_grad():
        return net()(VIEW(digits("valid")[0][VALID]))


@pytest.mark.parametrize("name", ["onnx:net.onnx", "exported:net.pt2", "exported:net.pt"])
def test_the_logits_are_those_of_the_network(folder, name):
    teacher = open_teacher(name, NCHW, inputs=VIEW, root=folder)
    said = answers(teacher)["output"]
    assert (said - live()).abs().max() < 1e-5
    assert said.dtype == torch.float32
    assert not said.requires_grad
    assert accuracy(said) > 0.85


@pytest.mark.parametrize(
    ("name", "answer"), [("onnx:both4.onnx", "logits"), ("exported:both4.pt2", "logits")]
)
def test_a_model_of_one_batch_size_is_asked_in_its_size_and_gives_features(folder, name, answer):
    teacher = open_teacher(name, NCHW, inputs=VIEW, answer=answer, root=folder)
    said = answers(teacher, 10, "body")
    assert (said["output"] - live()[:10]).abs().max() < 1e-5
    with torch.no_grad():
        body = net().body(VIEW(digits("valid")[0][:10]))
    assert said["body"].shape == (10, 16, 7, 7)
    assert (said["body"] - body).abs().max() < 1e-5
    with pytest.raises(LimbeckError, match=r"has the outputs .*say by answer= which"):
        answers(open_teacher(name, NCHW, inputs=VIEW, root=folder))


def test_an_unknown_output_is_told_before_the_first_step(folder):
    with pytest.raises(LimbeckError, match=r"got 'bodi'; did you mean 'body'"):
        onnx(folder / "both4.onnx", NCHW, answer="logits").check(["bodi"])
    teacher = exported(folder / "both4.pt2", NCHW, inputs=VIEW, answer="logits")
    with pytest.raises(LimbeckError, match=r"got 'bodi'; did you mean 'body'"):
        answers(teacher, 4, "bodi")


def test_an_onnx_file_can_say_itself_what_it_gives(folder, tmp_path):
    model = onnx_package.load(folder / "net.onnx")
    told = json.dumps(NCHW.as_json())
    onnx_package.helper.set_model_props(model, {"limbeck": told})
    onnx_package.save(model, tmp_path / "told.onnx")
    assert onnx(tmp_path / "told.onnx").spec == NCHW
    with pytest.raises(LimbeckError, match="does not say what it takes and gives: give Spec"):
        onnx(folder / "net.onnx")
    onnx_package.helper.set_model_props(model, {"limbeck": "{}"})
    onnx_package.save(model, tmp_path / "told.onnx")
    with pytest.raises(LimbeckError, match=r"must be Spec\(...\)\.as_json\(\): 'classes'"):
        onnx(tmp_path / "told.onnx")


def test_what_a_file_says_of_its_inputs_is_held_against_the_spec(folder):
    wrong = Spec("logits", NAMES, "NHWC")
    with pytest.raises(LimbeckError, match=r"takes \(B, 3, 28, 28\), got .*say layout: NCHW"):
        answers(onnx(folder / "net.onnx", wrong, inputs=VIEW))
    with pytest.raises(LimbeckError, match="takes float32, not float16: say dtype: float32"):
        onnx(folder / "net.onnx", Spec("logits", NAMES, "NCHW", "float16"))
    with pytest.raises(LimbeckError, match="give inputs= what makes such inputs"):
        answers(onnx(folder / "net.onnx", NCHW))


def test_damaged_and_missing_files_are_named(tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    with pytest.raises(LimbeckError, match=r"bad\.onnx cannot be run as ONNX"):
        onnx(bad, NCHW)
    for name in ("bad.pt2", "bad.pt"):
        (tmp_path / name).write_bytes(b"no model")
        with pytest.raises(LimbeckError, match=r"bad\.\w+ must be of torch.export.save"):
            exported(tmp_path / name, NCHW)
    with pytest.raises(LimbeckError, match=r"a teacher must be a file, got .*gone\.onnx"):
        onnx(tmp_path / "gone.onnx", NCHW)


def test_classes_of_scikit_learn_come_in_the_order_of_the_student(logistic):
    order = [f"d{k}" for k in (3, 1, 2, 0, 4, 5, 6, 7, 8, 9)]
    said = answers(sklearn(logistic, inputs=GREY, order=order))["output"]
    x = rows(digits("valid")[0][VALID])
    columns = [list(logistic.classes_).index(name) for name in order]
    expected = torch.from_numpy(logistic.predict_log_proba(x)[:, columns]).float()
    assert torch.allclose(said, expected, atol=1e-5)
    with pytest.raises(LimbeckError, match=r"has the classes \['d0', .*give order="):
        sklearn(logistic)
    with pytest.raises(LimbeckError, match="order names 'e3', which the teacher does not know"):
        sklearn(logistic, order=["e3"])


def test_probabilities_of_zero_are_finite_logits(forest):
    said = answers(sklearn(forest, inputs=GREY))["output"]
    assert (forest.predict_proba(rows(digits("valid")[0][VALID])) == 0).any()
    assert said.isfinite().all()
    assert said.min() < -700
    assert accuracy(said) > 0.85


def test_a_pickle_is_read_only_where_it_is_trusted(forest, tmp_path):
    path = tmp_path / "forest.pkl"
    path.write_bytes(pickle.dumps(forest))
    with pytest.raises(LimbeckError, match=r"is a pickle that can run code.*unsafe_pickle"):
        open_teacher(f"sklearn:{path}", inputs=GREY)
    teacher = open_teacher(f"sklearn:{path}", inputs=GREY, unsafe_pickle=True)
    assert answers(teacher)["output"].equal(answers(sklearn(forest, inputs=GREY))["output"])
    path.write_bytes(pickle.dumps({"no": "classifier"}))
    with pytest.raises(LimbeckError, match="must be a fitted classifier"):
        sklearn(path, unsafe_pickle=True)


def teachers(folder, forest):
    def call(x):
        assert not x.flags.writeable
        with torch.no_grad():
            return net()(torch.from_numpy(x.copy())).softmax(-1).numpy()

    spec = Spec("probabilities", NAMES, "NCHW")
    return {
        "onnx": onnx(folder / "net.onnx", NCHW, inputs=VIEW),
        "pt2": exported(folder / "net.pt2", NCHW, inputs=VIEW),
        "torchscript": exported(folder / "net.pt", NCHW, inputs=VIEW),
        "sklearn": sklearn(forest, inputs=GREY),
        "function": function(call, spec, inputs=VIEW, version="1"),
    }


@pytest.mark.parametrize("kind", ["onnx", "pt2", "torchscript", "sklearn", "function"])
def test_each_teaches_a_student_that_sees_no_label_live_and_from_a_store(
    folder, forest, tmp_path, kind
):
    teacher = teachers(folder, forest)[kind]
    taught = student_of(teacher)
    assert accuracy(taught) > 0.75
    assert torch.allclose(student_of(stored(teacher, tmp_path)), taught, atol=1e-2)


def test_a_store_tells_a_teacher_from_another(folder, forest, logistic, tmp_path):
    teacher = onnx(folder / "net.onnx", NCHW, inputs=VIEW)
    told = teacher.about()
    assert json.loads(json.dumps(told)) == told
    assert told == onnx(folder / "net.onnx", NCHW, inputs=VIEW).about()
    model = onnx_package.load(folder / "net.onnx")
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx_package.save(model, tmp_path / "net.onnx")
    other = onnx(tmp_path / "net.onnx", NCHW, inputs=VIEW).about()
    assert [key for key in told if told[key] != other[key]] == ["teacher"]
    assert sklearn(forest).about() != sklearn(logistic, order=logistic.classes_).about()
    assert sklearn(forest).about() == sklearn(forest).about()
    assert onnx(folder / "net.onnx", NCHW).about()["inputs"] is None
    with pytest.raises(LimbeckError, match="cannot say what it does; use a dataclass"):
        onnx(folder / "net.onnx", NCHW, inputs=lambda x: x).about()
    with pytest.raises(LimbeckError, match="give version="):
        function(np.negative, NCHW).about()


def test_a_large_tensor_outside_of_an_onnx_file_is_part_of_what_it_is(folder, tmp_path):
    model = onnx_package.load(folder / "net.onnx")
    path, weights = tmp_path / "net.onnx", tmp_path / "net.data"
    onnx_package.save(
        model, path, save_as_external_data=True, location="net.data", size_threshold=1000
    )
    before = onnx(path, NCHW).about()
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    assert onnx(path, NCHW).about() != before


def test_a_teacher_is_shared_by_copies_and_leaves_the_batch_as_it_was(folder):
    def vandal(x):
        with pytest.raises(ValueError, match="read-only"):
            x[:] = 0
        return x

    teacher = function(vandal, Spec("logits", 2, "rows"))
    x = torch.ones(3, 2, requires_grad=True)
    said = teacher(Batch(x), Signals(), ["output"])["output"]
    said.zero_()
    assert x.detach().equal(torch.ones(3, 2))
    assert copy.deepcopy(teacher) is teacher
