"""Trains a small network of Flax on digits, and is the factory that opens it.

    python flax_teacher.py DIGITS.npz FOLDER

It needs Flax, Optax and NumPy alone: neither torch nor limbeck. Its weights are found by
`DIGITS_WEIGHTS`.
"""

import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


class Net(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.one = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.two = nnx.Conv(8, 16, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(16 * 49, 10, rngs=rngs)

    def __call__(self, x):
        early = nnx.relu(self.one(x))
        late = nnx.relu(self.two(early))
        return {"output": self.head(late.reshape(len(x), -1)), "early": early}


def trained(images, labels):
    """The state of a network after four epochs."""
    graph, state = nnx.split(Net())
    optimizer = optax.adam(3e-3)
    held = optimizer.init(state)

    def loss(state, x, y):
        scores = nnx.merge(graph, state)(x)["output"]
        return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

    @jax.jit
    def step(state, held, x, y):
        update, held = optimizer.update(jax.grad(loss)(state, x, y), held)
        return optax.apply_updates(state, update), held

    for _ in range(4):
        for first in range(0, len(images), 100):
            rows = slice(first, first + 100)
            state, held = step(state, held, images[rows], labels[rows])
    return state


def teacher():
    """A compiled function of images (B, H, W, C)."""
    graph, state = nnx.split(Net())
    kept = np.load(os.environ["DIGITS_WEIGHTS"])
    leaves = [jnp.asarray(kept[f"arr_{k}"]) for k in range(len(kept.files))]
    state = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return jax.jit(lambda x: nnx.merge(graph, state)(x))


def main(digits: str, folder: str) -> None:
    data, out = np.load(digits), Path(folder)
    state = trained(data["train"], data["labels"])
    np.savez(out / "weights.npz", *jax.tree.leaves(state))
    os.environ["DIGITS_WEIGHTS"] = str(out / "weights.npz")
    found = teacher()(data["valid"])
    np.savez(out / "flax.npz", **{name: np.asarray(value) for name, value in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
