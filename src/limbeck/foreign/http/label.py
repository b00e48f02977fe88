"""Texts to a server, and what it says of them to a store."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.foreign.http.client import Client
from limbeck.foreign.http.probe import PROBED, Capabilities, probed, tell
from limbeck.foreign.http.server import Server
from limbeck.foreign.http.texts import Text, as_text, check_lengths, check_vocabulary
from limbeck.foreign.http.wire import Answer
from limbeck.store import Writer, by_content
from limbeck.store.codec import Coded
from limbeck.store.keys import Keys
from limbeck.store.places import Place
from limbeck.store.sparse import TopK
from limbeck.store.writer import SHARD_BYTES

log = logging.getLogger("limbeck")
SIGNAL = "output"
OTHER = 0.05  # total variation between two answers of one teacher, at most


@dataclass(frozen=True)
class Labelled:
    """What came of a call: distinct texts, those that were there before, and what was served."""

    texts: int
    known: int
    served: Capabilities


def label(
    server: Server,
    texts: Sequence[Sequence[int] | Text],
    to: Place,
    *,
    k: int,
    values: Literal["float16", "levels"] = "float16",
    tokenizer: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    seconds: float = 60.0,
) -> Labelled:
    """Asks a server for the k most likely tokens at each position of texts, and stores them.

    A text of T tokens has T - 1 rows: row i is of token i + 1, and stands beside the student's
    logits at position i. Rows are under the key `by_content([ids])` and view 0, as
    `"output.index"`, `"output.log_p"` and `"output.rest"` (R, L, ...) with the rows of each text
    as `"length"`; they are for `losses.sparse_kl` at temperature 1. Texts that the store has are
    not asked for again.

    Args:
        server: the server.
        texts: token ids (T,) of each text, 0 ... V - 1.
        to: the store.
        k: entries of a row.
        values: how log probabilities are kept, see `TopK`.
        tokenizer: the tokenizer's `fingerprint`; a store of another one is refused.
        shard_bytes: size of a shard, the most that a killed run loses.
        seconds: the longest time that an answer waits to be written.

    Raises:
        LimbeckError: a server that cannot do this, or gives fewer entries than k, or does not
            answer; a store of another teacher or tokenizer; a text that is too long or of another
            vocabulary. What had come by then is in the store.

    Example:
        >>> from limbeck.foreign.http import Server, label
        >>> from limbeck.store import place
        >>> server = Server("http://localhost:8000", vocabulary=32_000)
        >>> label(server, [[1, 15043, 3186]], place("store"), k=50)  # doctest: +SKIP
    """
    arrays = [as_text(f"text {n}", ids) for n, ids in enumerate(texts)]
    check_vocabulary(arrays, server.vocabulary)
    codec = TopK(k, values)
    codec.check((server.vocabulary,))

    async def run() -> Labelled:
        async with Client(server) as client:
            served = await ready(client, arrays, k)
            about = about_of(server, served, tokenizer)
            with Writer(
                to,
                about,
                {SIGNAL: codec},
                tokens=(SIGNAL,),
                shard_bytes=shard_bytes,
                seconds=seconds,
            ) as writer:
                return await Labelling(client, served, codec, writer).all(arrays)

    return asyncio.run(run())


async def ready(client: Client, texts: Sequence[Text], k: int) -> Capabilities:
    """What the server can do, when that is enough for these texts."""
    if not any(len(ids) > 1 for ids in texts):
        raise LimbeckError("nothing can be said of these texts: none has two tokens")
    served = await probed(client, max(texts, key=len), k)
    if served.k < k:
        raise LimbeckError(
            f"{client.server.base} gives {served.k} entries of a row, got k = {k}; ask for "
            f"{served.k}, or raise its limit (vLLM: --max-logprobs {k})"
        )
    if served.longest is not None:
        check_lengths(texts, served.longest)
    return served


def about_of(server: Server, served: Capabilities, tokenizer: str | None) -> dict[str, Any]:
    """What the rows depend on."""
    return {
        "teacher": served.model,
        "through": "http",
        "vocabulary": server.vocabulary,
        "tokenizer": tokenizer,
    }


@dataclass(frozen=True)
class Labelling:
    """A run: what asks, and what takes the answers."""

    client: Client
    served: Capabilities
    codec: TopK
    writer: Writer

    async def all(self, texts: Sequence[Text]) -> Labelled:
        """Asks for the texts that are not there yet, some at a time."""
        keys = by_content(texts)
        distinct = np.sort(np.unique(keys, axis=0, return_index=True)[1])
        known = self.writer.known(keys[distinct], np.zeros(len(distinct), np.int64))
        await self.check_teacher(texts, keys, distinct[known])
        missing = distinct[~known]
        log.info("asking for %d of %d texts", len(missing), len(distinct))
        numbers = iter(missing.tolist())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.client.server.concurrency):
                    group.create_task(self.some(numbers, texts, keys))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        return Labelled(len(distinct), int(known.sum()), self.served)

    async def some(self, numbers: Iterator[int], texts: Sequence[Text], keys: Keys) -> None:
        """Takes text after text from `numbers`, which other tasks take from too."""
        for n in numbers:
            coded = await self.coded(n, texts[n])
            length = np.array([max(len(texts[n]) - 1, 0)])
            self.writer.add_coded(keys[n : n + 1], np.zeros(1, np.int64), {SIGNAL: coded}, length)

    async def coded(self, n: int, ids: Text) -> Coded:
        """The rows of a text; none for one of a single token."""
        try:
            answer = await self.answer(ids)
            return self.codec.from_sparse(*answer.arrays(), self.client.server.vocabulary)
        except LimbeckError as error:
            raise LimbeckError(f"text {n}: {error}") from error

    async def answer(self, ids: Text) -> Answer:
        if len(ids) < 2:
            return Answer([], [])
        served = self.served
        return await tell(self.client, served.model, served.form, ids.tolist(), self.codec.k)

    async def check_teacher(
        self, texts: Sequence[Text], keys: Keys, known: NDArray[np.int64]
    ) -> None:
        """Raises LimbeckError if the server says other things of a known text than the store."""
        store = self.writer.before
        one = next((n for n in known.tolist() if len(texts[n]) > 1), None)
        if store is None or one is None:
            return
        theirs = store.read(keys[one : one + 1], np.zeros(1, np.int64))
        coded = await self.coded(one, texts[one][:PROBED])
        ours = self.codec.decode(coded.arrays, coded.shape)
        apart = variation(ours, theirs, self.client.server.vocabulary)
        if apart > OTHER:
            raise LimbeckError(
                f"{store.place} was written by another teacher than {self.client.server.base} "
                f"serves as {self.served.model!r}: of text {one} they say things {apart:.2f} apart "
                f"in total variation, at most {OTHER} are rounding; write to another place"
            )


def variation(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], vocabulary: int) -> float:
    """The mean total variation of kept probabilities (R, k), and (1, L, k) of a store, L >= R."""
    rows = len(ours[".index"])
    index, log_p = (theirs[f"{SIGNAL}{end}"][0, :rows] for end in (".index", ".log_p"))
    p = log_p.new_zeros(rows, vocabulary).scatter(-1, index, log_p.exp())
    q = torch.zeros_like(p).scatter(-1, ours[".index"], ours[".log_p"].exp())
    return float((p - q).abs().sum(-1).mean() / 2)
