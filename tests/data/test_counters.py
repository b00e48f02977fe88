import subprocess
import sys

import numpy as np
import pytest
import torch

from limbeck.counters import derive, permutation, uniforms


def test_uniforms_have_the_moments_of_the_uniform_distribution():
    drawn = uniforms(0, 0, np.arange(20_000), 4)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.004)
    assert drawn.var() == pytest.approx(1 / 12, abs=0.001)
    counts = np.histogram(drawn, bins=64, range=(0, 1))[0]
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert 25 < chi_square < 120


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (uniforms(0, 0, np.arange(20_000), 1), uniforms(0, 0, np.arange(1, 20_001), 1)),
        (uniforms(0, 0, np.arange(20_000), 1), uniforms(0, 1, np.arange(20_000), 1)),
        (uniforms(0, 0, np.arange(20_000), 1), uniforms(1, 0, np.arange(20_000), 1)),
        (uniforms(0, 0, np.arange(20_000), 2)[:, :1], uniforms(0, 0, np.arange(20_000), 2)[:, 1:]),
    ],
    ids=["ids", "epochs", "seeds", "streams"],
)
def test_neighbours_are_not_correlated(a, b):
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.025


def test_rows_are_distinct():
    drawn = np.concatenate([uniforms(s, e, np.arange(500), 1) for s in range(4) for e in range(4)])
    assert len(np.unique(drawn)) == 4 * 4 * 500


def test_a_row_depends_on_its_own_seed_counter_and_id():
    together = uniforms(7, [1, 2, 2], [10, 10, 11], 3)
    assert (together[1] == uniforms(7, 2, [10], 5)[0, :3]).all()
    assert (together[0] != together[1]).all()


def test_negative_and_large_seeds_are_seeds():
    seeds = [-1, 0, 1, 2**63, 2**64 - 2]
    assert len({float(uniforms(seed, 0, [0], 1)[0, 0]) for seed in seeds}) == len(seeds)


def test_permutations_differ_between_epochs_and_hold_everything_once():
    first, second = permutation(0, 0, 1000), permutation(0, 1, 1000)
    assert (np.sort(first) == np.arange(1000)).all()
    assert (first == second).sum() < 10
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.1


def test_the_same_in_another_process():
    program = (
        "from limbeck.counters import derive, permutation, uniforms;"
        "print(uniforms(3, 4, [5, 6], 2).tolist(), permutation(3, 4, 9).tolist(), derive(1, 'x'))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    here = (uniforms(3, 4, [5, 6], 2).tolist(), permutation(3, 4, 9).tolist(), derive(1, "x"))
    assert there.stdout.strip() == " ".join(map(str, here))


def test_splitmix64_is_the_published_generator():
    """First outputs of the reference C program for the state 1234567."""
    from limbeck.counters import GOLDEN, scramble

    state = np.array([1234567], dtype=np.uint64) + GOLDEN * np.arange(1, 4, dtype=np.uint64)
    assert scramble(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_global_generators_are_left_alone():
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    uniforms(0, 0, [1], 1)
    permutation(5, 5, 50)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)
