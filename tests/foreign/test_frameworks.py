"""Teachers of other frameworks, whole: trained, opened, probed, teaching, stored.

They need the interpreter that `make test-all` makes and names.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.foreign.digits import (
    NAMES,
    VIEW,
    accuracy,
    answers,
    digits,
    net,
    stored,
    student_of,
)

from limbeck.errors import LimbeckError
from limbeck.foreign import Spec, flax, keras, probe

FRAMEWORKS = "LIMBECK_FRAMEWORKS_PYTHON"
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        FRAMEWORKS not in os.environ,
        reason=f"{FRAMEWORKS} must name a Python that has the frameworks; `make test-all` does",
    ),
]


def python():
    return str(Path(os.environ[FRAMEWORKS]).absolute())


def ran(*arguments):
    """What a script printed in the frameworks' interpreter."""
    env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "CUDA_VISIBLE_DEVICES": ""}
    command = [python(), *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Digits as those frameworks take them, (B, H, W, C), and networks trained on them."""
    folder = tmp_path_factory.mktemp("frameworks")
    (train, labels), (valid, _) = digits(), digits("valid")
    images = [VIEW(x).permute(0, 2, 3, 1).numpy() for x in (train, valid)]
    np.savez(folder / "digits.npz", train=images[0], labels=labels.numpy(), valid=images[1])
    for kind in ("keras", "flax"):
        ran(HERE / f"{kind}_teacher.py", folder / "digits.npz", folder)
    return folder


def check_teaching(teacher, folder):
    """Probed, live and stored: what must hold for every teacher."""
    pixels, labels = digits("valid")
    assert probe(teacher, pixels, labels, classes=NAMES).accuracy > 0.85
    taught = student_of(teacher)
    assert accuracy(taught) > 0.75
    assert torch.allclose(student_of(stored(teacher, folder)), taught, atol=1e-2)


def test_keras(made, tmp_path):
    spec = Spec("probabilities", NAMES, "NHWC")
    teacher = keras(made / "net.keras", spec, inputs=VIEW, python=python())
    said = answers(teacher, 500, "early")
    expected = np.load(made / "keras.npz")
    p = torch.from_numpy(expected["probabilities"])
    assert torch.allclose(said["output"].softmax(-1), p, atol=1e-5)
    early = torch.from_numpy(expected["early"]).permute(0, 3, 1, 2)
    assert torch.allclose(said["early"], early, atol=1e-5)
    check_teaching(teacher, tmp_path)
    versions = teacher.about()["teacher"]["versions"]
    assert versions["keras"]
    with pytest.raises(LimbeckError, match=r"got 'eraly'; did you mean 'early'"):
        teacher.check(["eraly"])
    teacher.close()


def test_keras_by_a_layer_and_with_mistakes(made):
    scores = Spec("logits", NAMES, "NHWC")
    teacher = keras(made / "net.keras", scores, inputs=VIEW, python=python(), answer="scores")
    p = torch.from_numpy(np.load(made / "keras.npz")["probabilities"])
    assert torch.allclose(answers(teacher, 500)["output"].softmax(-1), p, atol=1e-5)
    teacher.close()
    wrong = keras(made / "net.keras", scores, inputs=VIEW, python=python())
    with pytest.raises(LimbeckError, match="say output: probabilities"):
        probe(wrong, *digits("valid"))
    wrong.close()
    turned = keras(made / "net.keras", Spec("logits", NAMES, "NCHW"), inputs=VIEW, python=python())
    with pytest.raises(LimbeckError, match=r"takes \(B, 28, 28, 3\), .*say layout: NHWC"):
        answers(turned)
    turned.close()
    with pytest.raises(LimbeckError, match="answer must be one of its layers"):
        keras(made / "net.keras", scores, python=python(), answer="nothing")
    broken = made / "broken.keras"
    broken.write_bytes(b"no model")
    with pytest.raises(LimbeckError, match=r"keras:.*failed in its process: \w+"):
        keras(broken, scores, python=python())


def test_flax(made, tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITS_WEIGHTS", str(made / "weights.npz"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    spec = Spec("logits", NAMES, "NHWC")
    factory = f"{HERE / 'flax_teacher.py'}:teacher"
    teacher = flax(factory, spec, inputs=VIEW, python=python(), version="1")
    said = answers(teacher, 500, "early")
    expected = np.load(made / "flax.npz")
    assert torch.allclose(said["output"], torch.from_numpy(expected["output"]), atol=1e-4)
    early = torch.from_numpy(expected["early"]).permute(0, 3, 1, 2)
    assert torch.allclose(said["early"], early, atol=1e-5)
    check_teaching(teacher, tmp_path)
    assert set(teacher.about()["teacher"]["versions"]) >= {"jax", "flax"}
    teacher.close()


def test_openvino(tmp_path):
    x, size = VIEW(digits("valid")[0]), torch.export.Dim("batch")
    torch.onnx.export(
        net(),
        (x,),
        tmp_path / "net.onnx",
        dynamo=True,
        verbose=False,
        external_data=False,
        dynamic_shapes=({0: size},),
    )
    with torch.no_grad():
        torch.save(net()(x), tmp_path / "logits.pt")
    told = json.loads(ran("-m", "tests.foreign.beside_torch", "openvino", tmp_path))
    assert max(told["xml"], told["onnx"], told["fixed"]) < 1e-4
    check_told(told)


def test_xgboost(tmp_path):
    told = json.loads(ran("-m", "tests.foreign.beside_torch", "xgboost", tmp_path))
    assert max(told["ten"], told["two"]) < 1e-5
    check_told(told)


def check_told(told):
    assert told["teacher"] > 0.8
    assert told["student"] > 0.7
    assert told["from the store"] < 1e-2
    assert len(told["sha256"]) == 64
