"""Teachers of XGBoost: rows in, margins out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.checkpoint import first_line
from limbeck.errors import LimbeckError, need
from limbeck.foreign.files import digest, existing
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.runner import Runner, Takes, as_array
from limbeck.foreign.spec import Layout, Spec


def xgboost(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    layout: Layout = "rows",
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
) -> Foreign:
    """A classifier of XGBoost in its own format (`.json`, `.ubj`); its answers are margins.

    Args:
        path: the file, of `save_model`.
        classes: names of its labels 0, 1, ..., which the file does not have.
        layout: how images are flattened, as for `sklearn`.
        inputs: as for `Foreign`.
        order: as for `Foreign`.

    Raises:
        LimbeckError: no such file, or none of a classifier; names for another number of classes.
    """
    runner = Booster(existing(path))
    if classes is not None and len(classes) != runner.classes:
        raise LimbeckError(
            f"{runner.name} has {runner.classes} classes, got names for {len(classes)}"
        )
    spec = Spec("logits", runner.classes if classes is None else tuple(classes), layout)
    return Foreign(runner, spec, inputs=inputs, order=order)


class Booster(Runner):
    """A classifying booster: margins z of each class, or of the second of two."""

    names = ()

    def __init__(self, path: Path) -> None:
        library = need("xgboost", "xgboost")
        self.version = library.__version__
        self.path, self.name = path, f"xgboost:{path}"
        try:
            self.booster = library.Booster(model_file=path)
        except library.core.XGBoostError as error:
            raise LimbeckError(f"{path} must be a model of XGBoost: {reason(error)}") from error
        self.booster.set_param({"nthread": torch.get_num_threads()})
        learner = json.loads(self.booster.save_config())["learner"]
        self.classes = self.counted(learner)
        self.takes = Takes((None, self.booster.num_features()))

    def counted(self, learner: Mapping[str, Any]) -> int:
        """How many classes it tells apart."""
        objective = learner["objective"]["name"]
        if objective.startswith("multi:"):
            return int(learner["learner_model_param"]["num_class"])
        if objective in ("binary:logistic", "binary:logitraw"):
            return 2
        raise LimbeckError(f"{self.name} must be a classifier, got the objective {objective}")

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        margins = self.booster.inplace_predict(
            as_array(inputs), predict_type="margin", validate_features=False
        )
        return {"output": margins}

    def identity(self) -> dict[str, Any]:
        return {"kind": "xgboost", "sha256": digest([self.path]), "xgboost": self.version}


def reason(error: Exception) -> str:
    """What XGBoost says behind its stamp of time and place."""
    return first_line(error).rsplit("] ", 1)[-1].strip()
