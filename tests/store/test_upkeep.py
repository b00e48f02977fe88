"""What a store says of itself, and stores that are made one."""

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.store import Store, Writer, by_content, by_number, codec, place
from limbeck.store.upkeep import damaged, merge, prune, summary

ABOUT = {"teacher": "a1"}


def rows(ids, view):
    return 3 * torch.sin(torch.as_tensor(ids).float()[:, None] * torch.arange(1, 9) + view)


def write(folder, ids, view=0, about=ABOUT, made="logits", shard_bytes=200):
    ids = np.asarray(ids)
    with Writer(place(folder), about, {"output": codec(made)}, shard_bytes=shard_bytes) as writer:
        for part in np.array_split(ids, max(len(ids) // 3, 1)):
            views = np.full(len(part), view)
            writer.add(by_number(part), views, {"output": rows(part, view)})


def test_a_summary_tells_rows_views_bytes_and_what_was_lost(tmp_path):
    write(tmp_path, range(30))
    write(tmp_path, range(10), view=2)
    found = summary(Store(place(tmp_path)))
    assert (found.rows, found.views) == (40, [0, 2])
    assert found.bytes == {"output": 40 * (8 * 2 + 4)}
    assert found.bytes_a_row == {"output": 20.0}
    exact = torch.cat((rows(range(30), 0), rows(range(10), 2)))
    keys, views = by_number([*range(30), *range(10)]), np.repeat([0, 2], [30, 10])
    gap = (Store(place(tmp_path)).read(keys, views)["output"] - exact).abs()
    assert found.error["output"]["max"] == pytest.approx(float(gap.max()))
    assert found.error["output"]["mean"] == pytest.approx(float(gap.mean()), rel=1e-5)
    assert 0 <= found.error["output"]["kl"] < 1e-6


def test_merged_stores_hold_every_row_once(tmp_path):
    write(tmp_path / "a", range(20))
    write(tmp_path / "b", range(10, 40))
    places = [place(tmp_path / "a"), place(tmp_path / "b")]
    merged = merge(places, place(tmp_path / "c"))
    assert len(merged) == 40
    assert len(merged.shards) == 1
    ids = np.random.default_rng(0).permutation(40)
    expected = torch.cat(
        [
            Store(place(tmp_path / ("a" if i < 20 else "b"))).read(
                by_number([i]), np.zeros(1, int)
            )["output"]
            for i in ids
        ]
    )
    assert merged.read(by_number(ids), np.zeros(40, int))["output"].equal(expected)
    assert len(Store(places[0])) == 20, "the others are as they were"


def test_a_store_is_packed_in_place(tmp_path):
    write(tmp_path, range(60))
    before = Store(place(tmp_path)).read(by_number(range(60)), np.zeros(60, int))["output"]
    packed = merge([place(tmp_path)], place(tmp_path), shard_bytes=600)
    assert 1 < len(packed.shards) < 6
    assert packed.read(by_number(range(60)), np.zeros(60, int))["output"].equal(before)
    assert len(list(tmp_path.glob("shard-*"))) == len(packed.shards)


def test_rows_that_are_not_wanted_go(tmp_path):
    write(tmp_path, range(10))
    write(tmp_path, range(10), view=1)
    kept = merge([place(tmp_path)], place(tmp_path), keep=lambda keys, views: views == 1)
    assert summary(kept).views == [1]
    assert len(kept) == 10


def test_a_store_goes_on_without_a_shard_that_was_lost(tmp_path):
    write(tmp_path, range(30))
    next(tmp_path.glob("shard-*")).unlink()
    with pytest.raises(LimbeckError, match="is missing"):
        Store(place(tmp_path))
    left = merge([place(tmp_path)], place(tmp_path))
    assert 0 < len(left) < 30
    assert len(Store(place(tmp_path))) == len(left)


def test_stores_that_do_not_belong_together_are_not_merged(tmp_path):
    write(tmp_path / "a", range(5))
    write(tmp_path / "b", range(5), about={"teacher": "b2"})
    write(tmp_path / "c", range(5), made="float32")
    for other in "bc":
        with pytest.raises(LimbeckError, match=f"{other} belongs to another store"):
            merge([place(tmp_path / "a"), place(tmp_path / other)], place(tmp_path / "d"))
    assert not (tmp_path / "d").exists()


def test_tokens_survive_a_merge(tmp_path):
    texts, lengths = [f"t{i}" for i in range(9)], np.arange(9) % 4
    flat = torch.randn(int(lengths.sum()), 30)
    kept = {"logits": codec("topk", k=5)}
    parts = flat.split(lengths.tolist())
    with Writer(place(tmp_path), ABOUT, kept, tokens=("logits",), shard_bytes=60) as writer:
        for i in range(9):
            keys = by_content(texts[i : i + 1])
            writer.add(keys, np.zeros(1, int), {"logits": parts[i]}, lengths[i : i + 1])
    order = [8, 3, 4, 0, 7, 7]
    asked = by_content([texts[i] for i in order]), np.zeros(6, int)
    before = Store(place(tmp_path)).read(*asked)
    after = merge([place(tmp_path)], place(tmp_path)).read(*asked)
    assert (
        before.keys() == after.keys() == {"logits.index", "logits.log_p", "logits.rest", "length"}
    )
    assert all(before[name].equal(after[name]) for name in before)


def test_damaged_shards_are_found_without_reading_rows(tmp_path):
    write(tmp_path, range(30))
    assert damaged(Store(place(tmp_path))) == []
    path = sorted(tmp_path.glob("shard-*"))[1]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert damaged(Store(place(tmp_path))) == [str(path)]


def test_a_store_that_is_not_named_is_not_merged_away(tmp_path):
    write(tmp_path / "a", range(4))
    write(tmp_path / "c", range(10), about={"teacher": "z"})
    with pytest.raises(LimbeckError, match="c holds a store that is not one of these"):
        merge([place(tmp_path / "a")], place(tmp_path / "c"))
    assert len(Store(place(tmp_path / "c"))) == 10


def test_what_another_writer_finishes_during_a_merge_stays(tmp_path):
    write(tmp_path, range(6))

    def meanwhile(keys, views):
        write(tmp_path, [100, 101])
        return np.ones(len(views), bool)

    merge([place(tmp_path)], place(tmp_path), keep=meanwhile)
    found = Store(place(tmp_path))
    assert len(found) == 8
    found.read(by_number([100, 0, 101]), np.zeros(3, int))


def test_a_merge_that_is_stopped_before_the_old_shards_are_gone_can_be_made_again(tmp_path):
    write(tmp_path, range(9))

    class Stopped(Exception):
        pass

    class Once(type(place(tmp_path))):
        def remove(self, name):
            raise Stopped

    with pytest.raises(Stopped):
        merge([Once(tmp_path)], Once(tmp_path))
    assert len(Store(place(tmp_path))) == 18, "old and new rows, which are the same"
    assert len(merge([place(tmp_path)], place(tmp_path))) == 9


def test_pruning_says_what_is_missing_and_leaves_something(tmp_path):
    write(tmp_path, range(9))
    with pytest.raises(LimbeckError, match="would hold no row"):
        prune(place(tmp_path), views=[7])
    next(tmp_path.glob("shard-*")).unlink()
    with pytest.raises(LimbeckError, match="is missing"):
        prune(place(tmp_path))
