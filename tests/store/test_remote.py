"""A store at a URL is a store."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.store import Store, Writer, by_number, codec, damaged, merge, place, prune

fsspec = pytest.importorskip("fsspec")
PYTHON = os.environ.get("LIMBECK_FRAMEWORKS_PYTHON")


@pytest.fixture
def where():
    url = "memory://stores/digits"
    yield url
    system, folder = fsspec.core.url_to_fs(url)
    system.rm(folder, recursive=True)


def rows(ids):
    return torch.cos(torch.as_tensor(ids).float()[:, None] * torch.arange(1, 4))


def write(where, ids, about="a"):
    with Writer(place(where), {"teacher": about}, {"output": codec("float32")}) as writer:
        for part in np.array_split(np.asarray(ids), 2):
            writer.add(by_number(part), np.zeros(len(part), int), {"output": rows(part)})


def test_a_url_is_written_read_and_packed_as_a_folder_is(where):
    assert place(where).names() == []
    with pytest.raises(LimbeckError, match=f"{where} holds no shard"):
        Store(place(where))
    write(where, range(10))
    write(where, range(5, 20))
    ids, zeros = np.array([19, 0, 7]), np.zeros(3, int)
    store = Store(place(where))
    assert store.read(by_number(ids), zeros)["output"].equal(rows(ids))
    assert (len(store), len(store.shards)) == (25, 2)
    assert damaged(store) == []
    packed = merge([place(where)], place(where))
    assert (len(packed), len(packed.shards)) == (20, 1)
    assert len(prune(place(where))) == 20
    with pytest.raises(LimbeckError, match="teacher 'a' here, 'b' there"):
        write(where, [30], about="b")


def test_a_url_of_no_known_kind_is_one_line():
    with pytest.raises(LimbeckError, match="nowhere://x cannot be used"):
        place("nowhere://x")


@pytest.mark.slow
def test_an_s3_server_takes_and_gives_a_store():
    """In the environment of the frameworks, which has moto's server and s3fs."""
    if PYTHON is None:
        pytest.skip("make test-all has the environment with moto and s3fs")
    script = Path(__file__).with_name("s3.py")
    done = subprocess.run([PYTHON, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shards"] == 2
    assert found["equal"]
    assert "teacher 'a' here, 'b' there" in found["other"]
    assert found["packed"] == [60, 1]
    assert "has other bytes than were written" in found["changed"]
