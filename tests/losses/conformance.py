"""How far the losses are from float64 in the float32 of each backend.

    PYTHONPATH=. python tests/losses/conformance.py BACKEND RESULT.json

adds a backend's errors to the result; `make conformance` asks all of them, for the documentation.
TensorFlow and JAX need an environment of their own, and TensorFlow a process without a compiler of
torch's, so only what is asked for is imported.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.losses.subject import NAN, Subject, normal, scored
from tests.losses.subjects import ALL

from limbeck import losses

Loss = Callable[..., Any]
Arrays = list[np.ndarray[Any, Any]]
Scored = tuple[Any, Any]  # the value, and the gradient by the student where there is one
BATCH, SEEDS = 4, range(3)
MASK = np.array([True, False, True, True])


def stored(seed: int, batch: int) -> tuple[torch.Tensor, ...]:
    """Logits, and the two most likely classes of a source with their log probabilities."""
    s, t = normal(seed, 2, batch, 3, 5)
    return s, *t.log_softmax(-1).topk(2)


def boxes(seed: int, batch: int) -> tuple[torch.Tensor, ...]:
    """Boxes and class logits of both sides."""
    low, size = normal(seed, 2, 2, batch, 2)
    return *torch.cat([low, low + size.abs()], -1), *normal(seed + 1, 2, batch, 3)


SUBJECTS = ALL | {  # and those that take more than two arrays
    "sparse_kl": Subject(losses.sparse_kl, stored, 3),
    "bckd_giou": Subject(losses.bckd_giou, boxes),
}


class Limit(NamedTuple):
    """The largest relative error; of a gradient, relative to its largest entry."""

    value: float = 2e-6
    gradient: float = 5e-6
    reason: str = ""


WIDER = {
    "pkt": Limit(
        2e-5, 5e-6, "a divergence of affinities that are nearly equal, whose terms cancel"
    ),
    "sad": Limit(2e-6, 2e-4, "softmaxes that are nearly one class each, whose slopes cancel"),
}
KNOWN = {"cirkd", "rkd_angle of some"}  # they lay out their work by the size of the batch


def eager(loss: Loss) -> Callable[[Arrays], Scored]:
    return lambda arrays: scored(loss, *map(torch.from_numpy, arrays))


def compiled(loss: Loss) -> Callable[[Arrays], Scored]:
    torch.compiler.reset()
    return eager(torch.compile(loss, fullgraph=True))


def numpy(loss: Loss) -> Callable[[Arrays], Scored]:
    return lambda arrays: (loss(*arrays), None)


def jax(loss: Loss) -> Callable[[Arrays], Scored]:
    import jax

    both = jax.jit(jax.value_and_grad(loss))
    return lambda arrays: both(*arrays)


def tensorflow(loss: Loss, batch: int | None = None) -> Callable[[Arrays], Scored]:
    """In a graph that does not know the size of the batch, or that does."""
    import tensorflow as tf

    @tf.function
    def both(s: Any, *others: Any) -> Scored:
        with tf.GradientTape() as tape:
            tape.watch(s)
            value = loss(s, *others)
        return value, tape.gradient(value, s)

    def score(arrays: Arrays) -> Scored:
        unknown = [tf.TensorSpec([batch, *x.shape[1:]], x.dtype) for x in arrays]
        return both.get_concrete_function(*unknown)(*map(tf.constant, arrays))

    return score


BACKENDS = {
    "torch": eager,
    "torch.compile": compiled,
    "jax": jax,
    "tensorflow": tensorflow,
    "numpy": numpy,
}


def errors(name: str, backend: str) -> tuple[float, float | None]:
    """The largest relative errors of a loss's value and gradient, without a mask and with one."""
    subject = SUBJECTS[name]
    backend_of = BACKENDS[backend]
    if backend == "tensorflow" and name in KNOWN:
        backend_of = partial(tensorflow, batch=BATCH)
    calls = [(subject.loss, plain)]
    if "masked" not in subject.exempt and backend != "torch.compile":
        calls.append((lambda *xs: subject.loss(*xs[:-1], mask=xs[-1]), masked))
    values, gradients = [], []
    for loss, arrays_of in calls:
        score = backend_of(loss)
        for seed in SEEDS:
            arrays = arrays_of(*subject.draw(seed, BATCH))
            (value, gradient), right = score(arrays), reference(loss, arrays)
            values.append(relative(value, right[0]))
            gradients += [] if gradient is None else [relative(gradient, right[1])]
    return max(values), max(gradients, default=None)


def plain(*arrays: torch.Tensor) -> Arrays:
    return [(x.float() if x.is_floating_point() else x).numpy() for x in arrays]


def masked(*arrays: torch.Tensor) -> Arrays:
    """With a sample that does not count and is not a number."""
    found = plain(*arrays)
    for x in found:
        x[~MASK] = NAN if x.dtype == np.float32 else -100
    return [*found, MASK]


def reference(loss: Loss, arrays: Arrays) -> Scored:
    exact = [torch.from_numpy(x.astype(float) if x.dtype == np.float32 else x) for x in arrays]
    return scored(loss, *exact)


def relative(x: Any, right: torch.Tensor) -> float:
    """To two digits."""
    error = np.abs(np.asarray(x) - right.numpy()).max() / np.abs(right.numpy()).max()
    return float(f"{error:.1e}")


def main(backend: str, path: Path) -> None:
    result = json.loads(path.read_text()) if path.exists() else {"backends": {}}
    package = backend.partition(".")[0]
    result["wider"] = WIDER
    result["backends"][backend] = {
        "version": version(package),
        "errors": {name: errors(name, backend) for name in SUBJECTS},
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
