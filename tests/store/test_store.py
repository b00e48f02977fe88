"""A store gives back the rows that were written, whoever wrote them, and nothing else."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.store import Store, Writer, by_content, by_number, codec, place

ABOUT = {"teacher": "a1", "data": "d1"}
OUTPUT = {"output": codec("float32")}


def answer(ids, view=0):
    """What the teacher says of samples: a function of id and view."""
    ids = torch.as_tensor(ids).float()[:, None]
    return torch.sin(ids * torch.arange(1, 6) + view)


def write(folder, ids, view=0, *, batch=7, about=ABOUT, codecs=OUTPUT, **settings):
    ids = np.asarray(ids)
    with Writer(place(folder), about, codecs, **settings) as writer:
        for start in range(0, len(ids), batch):
            rows = ids[start : start + batch]
            writer.add(by_number(rows), np.full(len(rows), view), {"output": answer(rows, view)})


def read(folder, ids, view=0):
    return Store(place(folder)).read(by_number(ids), np.full(len(ids), view))["output"]


def test_rows_come_back_in_any_order_as_often_as_asked(tmp_path):
    write(tmp_path, range(100), shard_bytes=400)
    assert len(list(tmp_path.glob("shard-*"))) > 5
    ids = np.random.default_rng(0).integers(0, 100, 300)
    assert read(tmp_path, ids).equal(answer(ids))


def test_views_of_a_sample_are_rows_of_their_own(tmp_path):
    for view in (0, 3):
        write(tmp_path, range(10), view)
    store = Store(place(tmp_path))
    assert len(store) == 20
    keys, views = by_number([4, 4, 5]), np.array([3, 0, 3])
    found = store.read(keys, views)["output"]
    assert found.equal(torch.cat((answer([4], 3), answer([4], 0), answer([5], 3))))


def test_content_is_a_key_the_same_in_every_process():
    texts = ["the cat", b"bytes", np.array([1, 2, 3], np.int32)]
    here = by_content(texts)
    script = (
        "import numpy as np; from limbeck.store import by_content;"
        "print(by_content(['the cat', b'bytes', np.array([1, 2, 3])]).tolist())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    there = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True, text=True
    )
    assert json.loads(there.stdout) == here.tolist()
    assert len(np.unique(here, axis=0)) == 3


def test_tokens_are_padded_to_the_longest_of_those_that_are_read(tmp_path):
    lengths = np.array([3, 0, 5, 1, 2])
    texts = [f"text {i}" for i in range(5)]
    flat = torch.randn(int(lengths.sum()), 4)
    rows = flat.split(lengths.tolist())
    settings = {"shard_bytes": 100, "tokens": ("logits",)}
    with Writer(place(tmp_path), ABOUT, {"logits": codec("float32")}, **settings) as writer:
        for i in (4, 2, 0, 1, 3):
            keys, one = by_content(texts[i : i + 1]), lengths[i : i + 1]
            writer.add(keys, np.zeros(1, int), {"logits": rows[i]}, one)
    asked = [2, 3, 1, 2]
    store = Store(place(tmp_path))
    assert len(store.shards) > 1
    found = store.read(by_content([texts[i] for i in asked]), np.zeros(4, int))
    assert found["length"].tolist() == [5, 1, 0, 5]
    assert found["logits"].shape == (4, 5, 4)
    for row, i in enumerate(asked):
        assert found["logits"][row, : lengths[i]].equal(rows[i])
        assert not found["logits"][row, lengths[i] :].any()


def test_a_second_writer_goes_on_where_the_first_stopped(tmp_path):
    write(tmp_path, range(30))
    with Writer(place(tmp_path), ABOUT, OUTPUT) as writer:
        known = writer.known(by_number(range(50)), np.zeros(50, int))
        rest = np.flatnonzero(~known)
        assert rest.tolist() == list(range(30, 50))
        writer.add(by_number(rest), np.zeros(20, int), {"output": answer(rest)})
    assert read(tmp_path, range(50)).equal(answer(range(50)))


def test_a_row_that_is_missing_is_named(tmp_path):
    write(tmp_path, range(5))
    with pytest.raises(LimbeckError, match="no row of sample 9 in view 0, nor of 1 more of"):
        read(tmp_path, [9, 1, 12])
    with pytest.raises(LimbeckError, match=r"keeps \['output'\], got 'outptu'; did you mean"):
        Store(place(tmp_path)).read(by_number([1]), np.zeros(1, int), ["outptu"])
    with pytest.raises(LimbeckError, match="holds no shard of a store"):
        Store(place(tmp_path / "elsewhere"))


def test_rows_of_another_shape_and_nan_are_refused(tmp_path):
    with Writer(place(tmp_path), ABOUT, OUTPUT) as writer:
        writer.add(by_number([0, 1]), np.zeros(2, int), {"output": answer([0, 1])})
        with pytest.raises(LimbeckError, match=r"a row of this store is \(5,\), got \(4,\)"):
            writer.add(by_number([2]), np.zeros(1, int), {"output": torch.zeros(1, 4)})
        broken = answer([3, 4])
        broken[1, 2] = torch.nan
        with pytest.raises(LimbeckError, match="output of sample 4 is not finite"):
            writer.add(by_number([3, 4]), np.zeros(2, int), {"output": broken})
        for wrong in (torch.inf, -torch.inf):
            whole = torch.full((1, 5), wrong)
            with pytest.raises(LimbeckError, match="output of sample 3 is not finite"):
                writer.add(by_number([3]), np.zeros(1, int), {"output": whole})
        with pytest.raises(LimbeckError, match=r"views: 2 rows were promised, got 1"):
            writer.add(by_number([3, 4]), np.zeros(1, int), {"output": answer([3, 4])})
        with pytest.raises(LimbeckError, match=r"but \['output'\] did not come"):
            writer.add(by_number([3]), np.zeros(1, int), {"other": answer([3])})
        with pytest.raises(LimbeckError, match="2 rows were promised, got 3"):
            writer.add(by_number([3, 4]), np.zeros(2, int), {"output": answer([3, 4, 5])})
    assert read(tmp_path, [1, 0]).equal(answer([1, 0])), "what came before is there"


def test_what_was_added_before_an_error_is_written(tmp_path):
    def interrupted():
        with Writer(place(tmp_path), ABOUT, OUTPUT) as writer:
            writer.add(by_number([0, 1]), np.zeros(2, int), {"output": answer([0, 1])})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read(tmp_path, [1]).equal(answer([1]))


def test_stores_of_two_teachers_are_not_mixed(tmp_path):
    write(tmp_path / "a", range(5))
    other = ABOUT | {"teacher": "b2"}
    with pytest.raises(LimbeckError, match="teacher 'a1' here, 'b2' there"):
        write(tmp_path / "a", range(5, 9), about=other)
    with pytest.raises(LimbeckError, match=r"keeps .*Float32.* got .*TopK.*another place"):
        write(tmp_path / "a", range(5, 9), codecs={"output": codec("topk", k=2)})
    write(tmp_path / "b", range(5, 9), about=other)
    for path in (tmp_path / "b").glob("shard-*"):
        shutil.copy(path, tmp_path / "a")
    with pytest.raises(LimbeckError, match=r"shard-.* belongs to another store"):
        Store(place(tmp_path / "a"))


def test_a_shard_that_is_gone_or_replaced_is_named(tmp_path):
    write(tmp_path, range(40), shard_bytes=200)
    gone, *_, last = sorted(tmp_path.glob("shard-*"))
    kept = gone.read_bytes()
    gone.unlink()
    with pytest.raises(LimbeckError, match=f"{gone.name} is missing; bring it back"):
        Store(place(tmp_path))
    gone.write_bytes(last.read_bytes())
    with pytest.raises(LimbeckError, match=f"{gone.name} was written as {last.name}"):
        Store(place(tmp_path))
    gone.write_bytes(kept)
    assert read(tmp_path, range(40)).equal(answer(range(40)))


def test_the_shards_alone_are_a_store(tmp_path):
    write(tmp_path, range(40), shard_bytes=200)
    (tmp_path / "manifest.json").unlink()
    assert read(tmp_path, range(40)).equal(answer(range(40)))


def test_any_cut_and_any_flipped_bit_is_found(tmp_path):
    write(tmp_path, range(8))
    path = next(tmp_path.glob("shard-*"))
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(60):
        path.write_bytes(whole[: chance.randrange(len(whole))])
        with pytest.raises(LimbeckError, match=f"{path.name} must be a whole shard"):
            read(tmp_path, range(8))
    for _ in range(300):
        place_of_bit = chance.randrange(8 * len(whole))
        broken = bytearray(whole)
        broken[place_of_bit // 8] ^= 1 << place_of_bit % 8
        path.write_bytes(broken)
        with pytest.raises(LimbeckError, match=path.name):
            read(tmp_path, range(8))
    path.write_bytes(whole)
    assert read(tmp_path, range(8)).equal(answer(range(8)))


WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
from test_store import *
first, last, pause = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with Writer(place(sys.argv[1]), ABOUT, OUTPUT, shard_bytes=200) as writer:
    known = writer.known(by_number(range(first, last)), np.zeros(last - first, int))
    for i in np.flatnonzero(~known) + first:
        writer.add(by_number([i]), np.zeros(1, int), {{"output": answer([i])}})
        print(i, flush=True)
        time.sleep(pause)
"""


def start(folder, first, last, pause=0.0):
    script = WRITER.format(tests=os.path.dirname(__file__))
    arguments = [sys.executable, "-c", script, str(folder), str(first), str(last), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_three_writers_of_which_one_is_killed_and_started_again_equal_one(tmp_path):
    alone, together = tmp_path / "one", tmp_path / "three"
    write(alone, range(90))
    parts = [(0, 30), (30, 60), (60, 90)]
    writers = [start(together, *part, pause=0.01) for part in parts]
    for _ in range(20):
        writers[1].stdout.readline()
    writers[1].send_signal(signal.SIGKILL)
    writers[1].communicate()
    assert writers[1].returncode == -signal.SIGKILL
    again = start(together, *parts[1])
    for writer in (writers[0], again, writers[2]):
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    assert len(Store(place(together))) == 90, "no row is lost and none is there twice"
    assert read(together, range(90)).equal(read(alone, range(90)))


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_loses_the_open_shard_at_most(tmp_path):
    per_shard = 5  # rows of 44 bytes in shards of 200
    for trial in range(50):
        folder = tmp_path / str(trial)
        writer = start(folder, 0, 400)
        said = [writer.stdout.readline()]
        deadline = time.monotonic() + random.Random(trial).random() * 0.15
        while time.monotonic() < deadline:
            said.append(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        acknowledged = len([line for line in [*said, *rest.split("\n")] if line.strip()])
        whole = list(folder.glob("shard-*"))
        if not whole:
            assert acknowledged <= per_shard
            continue
        rows = len(Store(place(folder)))
        assert rows >= acknowledged - per_shard
        assert read(folder, range(rows)).equal(answer(range(rows)))


def test_what_the_caller_does_with_its_arrays_afterwards_changes_nothing(tmp_path):
    said, keys = torch.zeros(1, 5), by_number([0])
    with Writer(place(tmp_path), ABOUT, OUTPUT) as writer:
        for i in range(3):
            said.copy_(answer([i]))
            keys[:] = by_number([i])
            writer.add(keys, np.zeros(1, int), {"output": said})
    assert read(tmp_path, [2, 0, 1]).equal(answer([2, 0, 1]))


def test_a_writer_of_samples_does_not_go_on_with_a_store_of_tokens(tmp_path):
    write(tmp_path, range(3))
    with pytest.raises(LimbeckError, match=r"keeps .*got .* of tokens"):
        Writer(place(tmp_path), ABOUT, OUTPUT, tokens=("output",))


def test_more_shards_than_files_may_be_open(tmp_path):
    resource = pytest.importorskip("resource")
    write(tmp_path, range(90), batch=1, shard_bytes=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (70, hard))
    try:
        assert read(tmp_path, range(90)).equal(answer(range(90)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_keys_that_share_a_word_are_told_apart(tmp_path):
    keys = np.array([[5, 1], [5, 2], [5, 3], [4, 2]], np.uint64)
    with Writer(place(tmp_path), ABOUT, OUTPUT) as writer:
        writer.add(keys, np.zeros(4, int), {"output": answer(range(4))})
    store = Store(place(tmp_path))
    assert store.read(keys[[2, 0, 3, 1]], np.zeros(4, int))["output"].equal(answer([2, 0, 3, 1]))
    with pytest.raises(LimbeckError, match="no row of sample"):
        store.read(np.array([[5, 4]], np.uint64), np.zeros(1, int))


def test_a_damaged_manifest_is_as_none(tmp_path):
    write(tmp_path, range(4))
    (tmp_path / "manifest.json").write_text('{"shards": [')
    assert read(tmp_path, range(4)).equal(answer(range(4)))


def test_a_place_that_cannot_be_written_is_found_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LimbeckError, match="must be a folder to write to"):
        Writer(place(tmp_path / "file"), ABOUT, OUTPUT)
