"""Teachers of scikit-learn: rows in, classes by their labels."""

import hashlib
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.checkpoint import first_line
from limbeck.errors import LimbeckError, need
from limbeck.foreign.files import digest, existing
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.runner import Runner, Takes, as_array
from limbeck.foreign.spec import Layout, Spec


def sklearn(
    model: str | Path | Any,
    *,
    layout: Layout = "rows",
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    unsafe_pickle: bool = False,
) -> Foreign:
    """A classifier of scikit-learn, or of anything with `classes_` and `predict_proba`.

    Its answers are log-probabilities; the columns are those of `classes_`, which is sorted, so
    names need `order`.

    Args:
        model: a fitted classifier, or a file of pickle or joblib that holds one.
        layout: how images are flattened: `rows`, or `rows_nhwc` if it was fitted to (H, W, C).
        inputs: as for `Foreign`.
        order: the student's classes; without it, `classes_` must be 0, 1, ...
        unsafe_pickle: read the file, which can run code.

    Raises:
        LimbeckError: a file that is refused, no classifier, classes without `order`.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> fitted = LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
        >>> sklearn(fitted, order=("yes", "no")).classes
        ('yes', 'no')
    """
    runner = Estimator(model, unsafe_pickle)
    labels = runner.model.classes_
    spec = Spec("log_probabilities", labelled(labels, order, runner.name), layout)
    return Foreign(runner, spec, inputs=inputs, order=order)


class Estimator(Runner):
    """A fitted classifier."""

    names = ()

    def __init__(self, model: Any, unsafe_pickle: bool) -> None:
        self.version = need("sklearn", "sklearn").__version__
        self.path = existing(model) if isinstance(model, str | Path) else None
        self.name = f"sklearn:{self.path or type(model).__name__}"
        self.model = model if self.path is None else unpickled(self.path, unsafe_pickle)
        if not hasattr(self.model, "classes_") or not hasattr(self.model, "predict_proba"):
            raise LimbeckError(
                f"{self.name} must be a fitted classifier with classes_ and predict_proba, got "
                f"{type(self.model).__name__}; wrap others in CalibratedClassifierCV"
            )
        count = getattr(self.model, "n_features_in_", None)
        self.takes = Takes(None if count is None else (None, int(count)))

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        with warnings.catch_warnings(), np.errstate(divide="ignore"):
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            rows = as_array(inputs)
            if hasattr(self.model, "predict_log_proba"):
                return {"output": self.model.predict_log_proba(rows)}
            return {"output": np.log(self.model.predict_proba(rows))}

    def identity(self) -> dict[str, Any]:
        """The file's bytes; of an object its pickle, which differs wherever the object does."""
        if self.path is not None:
            found = {"sha256": digest([self.path])}
        else:
            found = {"pickle_sha256": hashlib.sha256(pickle.dumps(self.model)).hexdigest()}
        return {"kind": "sklearn", **found, "scikit-learn": self.version}


def unpickled(path: Path, allowed: bool) -> Any:
    """What a pickle holds."""
    if not allowed:
        raise LimbeckError(
            f"{path} is a pickle that can run code; load it with unsafe_pickle: true if you trust "
            "it, or convert it to ONNX"
        )
    try:
        return need("joblib", "sklearn").load(path)
    except Exception as error:  # whatever a pickle can raise
        raise LimbeckError(f"{path} must be a whole pickle: {first_line(error)}") from error


def labelled(labels: NDArray[Any], order: Sequence[str] | None, name: str) -> int | tuple[str, ...]:
    """The classes of a model by its labels: names, or how many where labels are numbers 0, 1, ...

    >>> labelled(np.array([0, 1, 2]), None, "it"), labelled(np.array([1.0, 4.0]), ["4"], "it")
    (3, ('1', '4'))
    """
    plain = [int(each) if is_whole(each) else each for each in labels.tolist()]
    if order is not None:
        return tuple(map(str, plain))
    if plain != [*range(len(plain))]:
        raise LimbeckError(
            f"{name} has the classes {plain[:8]}; give order= the student's classes by these names"
        )
    return len(plain)


def is_whole(label: Any) -> bool:
    return isinstance(label, int | float) and float(label).is_integer()
