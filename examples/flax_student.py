"""A student in Flax NNX with optax, distilled from a teacher's stored answers."""

# %%
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from limbeck import losses

# %% The teacher answers once, in a process of its own, for 2,000 digits.
if not Path("teacher.npz").exists():
    subprocess.run([sys.executable, Path(__file__).with_name("stored_teacher.py")], check=True)
data = np.load("teacher.npz")
images, logits = data["images"], data["logits"]
labels = np.full_like(data["labels"], -100)
labels[::10] = data["labels"][::10]  # one digit in ten has a label here


# %% Both students are this one; what they learn from differs.
def trained(objective):
    rngs = nnx.Rngs(0)
    student = nnx.Sequential(
        nnx.Linear(784, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs)
    )
    optimizer = nnx.Optimizer(student, optax.adam(0.003), wrt=nnx.Param)

    @nnx.jit
    def step(student, optimizer, x, target, t):
        gradient = nnx.grad(lambda student: objective(student(x), target, t))(student)
        optimizer.update(student, gradient)

    for epoch in range(20):
        for rows in np.random.default_rng(epoch).permutation(len(images)).reshape(-1, 50):
            step(student, optimizer, images[rows], labels[rows], logits[rows])
    right = jnp.argmax(student(data["test_images"]), -1) == data["test_labels"]
    return float(right.mean())


def alone(s, target, t):
    return losses.cross_entropy(s, target)


def distilled(s, target, t):
    return 0.3 * losses.cross_entropy(s, target) + 0.7 * losses.kl(s, t, temperature=4)


# %%
print(f"labels alone: {trained(alone):.1%} of the test digits")
print(f"distilled: {trained(distilled):.1%} of the test digits")
