"""Training from a store is training with the teacher."""

import numpy as np
import pytest
import torch
from torch import nn

from limbeck import Distiller, Frozen, Match, losses, truth
from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.store import (
    Store,
    Stored,
    Writer,
    by_content,
    by_number,
    codec,
    of_tokens,
    place,
)

IDS = torch.arange(24)


def images(ids, view):
    """Samples in a view, as any augmentation keyed by counters makes them."""
    return torch.sin(ids[:, None] * torch.arange(1.0, 9.0) + view[:, None])


def teacher():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))


def written(folder, codecs, views=3):
    source = Frozen(teacher())
    with Writer(place(folder), {"teacher": "t"}, codecs, shard_bytes=600) as writer:
        for view in range(views):
            for ids in IDS.split(7):
                batch = Batch(images(ids, torch.full_like(ids, view)))
                said = source(batch, Signals(), list(codecs))
                writer.add(by_number(ids.numpy()), np.full(len(ids), view), said)
    return Stored(Store(place(folder)))


def trained(source, objective, steps=20):
    torch.manual_seed(1)
    student = nn.Linear(8, 5)
    distiller = Distiller(student, source, objective)
    optimizer = torch.optim.SGD(distiller.parameters(), 0.5)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randperm(24, generator=generator)[: 5 + step % 3]
        view = torch.randint(3, ids.shape, generator=generator)
        distiller(images(ids, view), target=ids % 5, ids=ids, view=view).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return student.weight.detach()


def kd():
    return 0.5 * truth() + 0.5 * Match(losses.kl, temperature=4)


def test_from_single_precision_the_student_is_the_same_to_the_bit(tmp_path):
    stored = written(tmp_path, {"output": codec("float32")})
    assert trained(stored, kd()).equal(trained(Frozen(teacher()), kd()))


def test_from_half_precision_it_is_nearly_the_same(tmp_path):
    stored = written(tmp_path, {"output": codec("logits")})
    live = trained(Frozen(teacher()), kd())
    assert torch.allclose(trained(stored, kd()), live, atol=1e-3)
    assert not trained(stored, kd()).equal(live)


def test_features_are_matched_from_the_store(tmp_path):
    stored = written(tmp_path, {"output": codec("float32"), "1": codec("float32")})
    objective = truth() + Match(losses.logit_mse, "output", "1", project=nn.Linear(5, 16))
    torch.manual_seed(2)
    other = truth() + Match(losses.logit_mse, "output", "1", project=nn.Linear(5, 16))
    other.load_state_dict(objective.state_dict())
    assert trained(stored, objective).equal(trained(Frozen(teacher()), other))


def test_all_classes_in_a_sparse_form_are_the_dense_form(tmp_path):
    stored = written(tmp_path, {"output": codec("topk", k=5, temperature=4.0)})
    sparse = 0.5 * truth() + 0.5 * Match(
        losses.sparse_kl,
        theirs="output.log_p",
        given={"index": "teacher:output.index"},
        temperature=4,
    )
    live = trained(Frozen(teacher()), kd())
    assert torch.allclose(trained(stored, sparse), live, atol=2e-3)


def test_a_loss_that_needs_what_is_not_kept_is_told_so_at_once(tmp_path):
    stored = written(tmp_path, {"output": codec("topk", k=2)})
    with pytest.raises(LimbeckError, match=r"keeps of 'output' only \['output.index', .*sparse_kl"):
        Distiller(nn.Linear(8, 5), stored, kd())
    with pytest.raises(LimbeckError, match=r"got 'layer9'.*write a store that keeps it"):
        stored.check(["layer9"])
    sparse = Match(losses.sparse_kl, theirs="output.log_p", given={"index": "teacher:output.index"})
    distiller = Distiller(nn.Linear(8, 5), stored, 1.0 * sparse)
    with pytest.raises(LimbeckError, match=r"a stored source needs \['ids', 'view'\]"):
        distiller(images(IDS, IDS), target=IDS % 5)
    with pytest.raises(LimbeckError, match="no row of sample 0 in view 7"):
        distiller(images(IDS, IDS), ids=IDS, view=torch.full_like(IDS, 7))


class Language(nn.Module):
    """Logits of the next token from the last one."""

    def __init__(self, width, vocabulary=40):
        super().__init__()
        self.embed, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)

    def forward(self, input_ids, attention_mask):
        return self.head(self.embed(input_ids))


def test_texts_are_found_by_their_tokens_however_they_are_batched(tmp_path):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 9, (12,), generator=generator).tolist()
    texts = [torch.randint(40, (n,), generator=generator) for n in lengths]
    torch.manual_seed(0)
    teacher = Language(16)
    with (
        Writer(place(tmp_path), {}, {"output": codec("topk", k=40)}, tokens=("output",)) as writer,
        torch.no_grad(),
    ):
        for text in texts:
            logits = teacher(text[None], None)[0, :-1]
            keys, rows = by_content([text.numpy()]), np.array([len(text) - 1])
            writer.add(keys, np.zeros(1, int), {"output": logits}, rows)
    torch.manual_seed(1)
    student = Reader(Language(8), names={"next": lambda s: s["output"][:, :-1]})
    given = {"index": "teacher:output.index", "mask": "data:mask"}
    sparse = Match(losses.sparse_kl, "next", "output.log_p", given=given)
    dense = Match(losses.kl, "next", given={"mask": "data:mask"})
    live = Frozen(teacher, names={"next": lambda s: s["output"][:, :-1]})
    ours = Distiller(student, Stored(Store(place(tmp_path)), of_tokens), 1.0 * sparse)
    theirs = Distiller(student, live, 1.0 * dense)
    for chosen in ([3, 0, 7], [11], [5, 5, 2, 9]):
        batch = [texts[i] for i in chosen]
        ids = nn.utils.rnn.pad_sequence(batch, batch_first=True)
        real = nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in batch], True)
        inputs = {"input_ids": ids, "attention_mask": real}
        mask = real[:, 1:].bool()
        found, exact = (each(inputs, mask=mask).loss.detach() for each in (ours, theirs))
        assert float(found) == pytest.approx(float(exact), rel=2e-3)
    with pytest.raises(LimbeckError, match="texts are found by inputs="):
        ours(texts[0][None], mask=torch.ones(1, 1))
