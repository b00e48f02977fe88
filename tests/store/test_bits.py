"""Numbers in few bits come back, at any width, and take no more bytes than they must."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limbeck.store.bits import pack, pack_sorted, unpack, unpack_sorted, width_of


@given(st.data(), st.integers(0, 62), st.integers(1, 5), st.integers(1, 9))
def test_numbers_of_any_width_come_back(data, width, rows, k):
    x = data.draw(arrays(np.int64, (rows, k), elements=st.integers(0, (1 << width) - 1)))
    packed = pack(x, width)
    assert packed.shape == (rows, math.ceil(k * width / 8))
    assert (unpack(packed, width, k) == x).all()


@given(st.data(), st.integers(1, 300_000), st.integers(1, 60))
def test_ascending_numbers_come_back_repeated_ones_too(data, n, k):
    x = data.draw(arrays(np.int64, (3, k), elements=st.integers(0, n - 1)))
    x.sort(-1)
    assert (unpack_sorted(pack_sorted(x, n), k, n) == x).all()


@pytest.mark.parametrize(("k", "n"), [(50, 131_072), (50, 50_257), (64, 151_936), (10, 1000)])
def test_ascending_numbers_take_little_more_than_the_entropy(k, n):
    x = np.sort(np.random.default_rng(0).choice(n, k, replace=False))[None]
    least = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)
    bits = 8 * pack_sorted(x, n).shape[1]
    assert least <= bits <= least + 0.6 * k + 8
    assert bits < k * width_of(n)


def test_a_row_can_be_read_alone():
    x = np.sort(np.random.default_rng(0).integers(0, 5000, (7, 11)), -1)
    packed = pack_sorted(x, 5000)
    assert (unpack_sorted(packed[3:4], 11, 5000) == x[3:4]).all()
