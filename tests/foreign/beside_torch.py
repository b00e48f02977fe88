"""Teachers of OpenVINO and XGBoost, which run beside torch: what they answer and teach.

    python -m tests.foreign.beside_torch openvino|xgboost FOLDER

For OpenVINO the folder holds `net.onnx` and `logits.pt`, what the network says of digits. Prints
one JSON document.
"""

import json
import sys
from pathlib import Path

import torch
from tests.foreign.digits import (
    GREY,
    NAMES,
    NCHW,
    VIEW,
    accuracy,
    answers,
    digits,
    stored,
    student_of,
)

from limbeck.foreign import Foreign, openvino, probe, xgboost

PIXELS, LABELS = digits("valid")


def told(teacher: Foreign, folder: Path) -> dict[str, float | str]:
    """What a teacher scores, and its students."""
    taught = student_of(teacher)
    from_store = student_of(stored(teacher, folder / "store"))
    return {
        "teacher": probe(teacher, PIXELS, LABELS, classes=NAMES).accuracy or 0.0,
        "student": accuracy(taught),
        "from the store": float((from_store - taught).abs().max()),
        "sha256": teacher.about()["teacher"]["sha256"],
    }


def of_openvino(folder: Path) -> dict[str, float | str]:
    import openvino as library

    model = library.convert_model(folder / "net.onnx")
    library.save_model(model, folder / "net.xml", compress_to_fp16=False)
    logits = torch.load(folder / "logits.pt")
    of_xml = openvino(folder / "net.xml", NCHW, inputs=VIEW)
    of_onnx = openvino(folder / "net.onnx", NCHW, inputs=VIEW)
    model.reshape([64, 3, 28, 28])
    library.save_model(model, folder / "fixed.xml", compress_to_fp16=False)
    fixed = openvino(folder / "fixed.xml", NCHW, inputs=VIEW)
    errors = {
        name: float((answers(teacher, 500)["output"] - logits).abs().max())
        for name, teacher in {"xml": of_xml, "onnx": of_onnx, "fixed": fixed}.items()
    }
    return {**told(of_xml, folder), **errors}


def of_xgboost(folder: Path) -> dict[str, float | str]:
    from xgboost import XGBClassifier

    pixels, labels = digits()
    rows, valid = (GREY(x).flatten(1).numpy() for x in (pixels, PIXELS))
    whole = XGBClassifier(n_estimators=25, max_depth=4, n_jobs=1)
    whole.fit(rows, labels.numpy()).save_model(folder / "ten.ubj")
    odd = XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1)
    odd.fit(rows, (labels % 2).numpy()).save_model(folder / "odd.json")
    ten = xgboost(folder / "ten.ubj", classes=NAMES, inputs=GREY)
    two = xgboost(folder / "odd.json", classes=("even", "odd"), inputs=GREY, order=("odd", "even"))
    p_ten = answers(ten, 500)["output"].softmax(-1)
    p_two = answers(two, 500)["output"].softmax(-1).flip(-1)
    return {
        **told(ten, folder),
        "ten": float((p_ten - torch.from_numpy(whole.predict_proba(valid))).abs().max()),
        "two": float((p_two - torch.from_numpy(odd.predict_proba(valid))).abs().max()),
    }


if __name__ == "__main__":
    made = {"openvino": of_openvino, "xgboost": of_xgboost}[sys.argv[1]]
    print(json.dumps(made(Path(sys.argv[2]))))
