"""What is sent and what comes back: the two forms in which servers tell of a prompt's tokens.

T tokens of a text, V vocabulary. Of the first token no server has a probability, so that an answer
has T - 1 rows: row i is of token i + 1, and stands beside the logits of the student at position i.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from limbeck.errors import LimbeckError

NEVER = -9999.0  # stands for the logarithm of 0, which JSON cannot hold
PREFIX = "token_id:"
Ids = Sequence[int]


class Answer(NamedTuple):
    """What a server says of a text.

    Attributes:
        rows: log probabilities by token id, of each token but the first; -inf for the impossible.
        own: log probabilities (T - 1) of the text's own tokens.
    """

    rows: list[dict[int, float]]
    own: list[float]

    def fewest(self) -> int:
        """The number of entries of the shortest row."""
        return min(map(len, self.rows))

    def arrays(self) -> tuple[Tensor, Tensor]:
        """Entries as `TopK.from_sparse` takes them: ids and log probabilities (T - 1, K)."""
        shape = len(self.rows), max(map(len, self.rows), default=1)
        index, log_p = torch.zeros(shape, dtype=torch.long), torch.full(shape, -math.inf)
        for i, row in enumerate(self.rows):
            index[i, : len(row)] = torch.tensor(list(row), dtype=torch.long)
            log_p[i, : len(row)] = torch.tensor(list(row.values()))
        return index, log_p


class Unfit(LimbeckError):
    """An answer that is not what was asked for."""


class ByStrings(Unfit):
    """An answer that names tokens by their text."""


class PromptLogprobs:
    """vLLM's own field: `prompt_logprobs` beside the prompt, by token id."""

    name: ClassVar[str] = "prompt_logprobs"

    def body(self, prompt: Any, k: int) -> dict[str, Any]:
        return {"prompt": prompt, "max_tokens": 1, "prompt_logprobs": k}

    def answer(self, choice: Mapping[str, Any], prompt: Ids) -> Answer:
        told = listed(choice.get("prompt_logprobs"), self.name, len(prompt))
        rows = [
            {number(name): log_p(entry["logprob"]) for name, entry in row.items()}
            for row in told[1:]
        ]
        return Answer(rows, [own(row, token) for row, token in zip(rows, prompt[1:], strict=True)])


class Echo:
    """OpenAI's older form: the prompt is echoed, with `logprobs` of each of its tokens."""

    name: ClassVar[str] = "echo"

    def body(self, prompt: Any, k: int) -> dict[str, Any]:
        return {
            "prompt": prompt,
            "max_tokens": 1,
            "echo": True,
            "logprobs": k,
            "return_tokens_as_token_ids": True,
        }

    def answer(self, choice: Mapping[str, Any], prompt: Ids) -> Answer:
        told = choice.get("logprobs") or {}
        names, tops, single = (
            listed(told.get(field), field, len(prompt), len(prompt) + 1)[: len(prompt)]
            for field in ("tokens", "top_logprobs", "token_logprobs")
        )
        echoed = [number(name, PREFIX) for name in names]
        if echoed != list(prompt):
            raise Unfit(f"the prompt came back as other tokens: {prompt[:8]} as {echoed[:8]}")
        rows = [{number(name, PREFIX): log_p(x) for name, x in row.items()} for row in tops[1:]]
        return Answer(rows, [log_p(x) for x in single[1:]])


Form = PromptLogprobs | Echo


def listed(value: Any, field: str, *lengths: int) -> list[Any]:
    """A list with an entry for each token, of which the first may be empty and no other."""
    if not isinstance(value, list):
        raise Unfit(f"the answer has no {field}")
    if len(value) not in lengths:
        raise Unfit(f"{field} should be of {lengths[0]} tokens, got {len(value)}")
    if any(entry is None for entry in value[1 : lengths[0]]):
        raise Unfit(f"{field} is empty at token {value.index(None, 1)}")
    return value


def number(name: str, prefix: str = "") -> int:
    """The id that a token is named by: `"17"`, or with a prefix as in `"token_id:17"`."""
    digits = name.removeprefix(prefix)
    if not (name.startswith(prefix) and digits.isascii() and digits.isdigit()):
        raise ByStrings(
            f"tokens are named by strings such as {name!r}, which several ids may share"
        )
    return int(digits)


def log_p(value: float | None) -> float:
    """A log probability, -inf where the server writes a stand-in for it."""
    x = -math.inf if value is None or value <= NEVER else float(value)
    if math.isnan(x) or x > 1e-3:
        raise Unfit(f"log probabilities must be at most 0, got {x:g}; are they logits?")
    return x


def own(row: Mapping[int, float], token: int) -> float:
    """The log probability of the text's token, which every row has beside the k largest."""
    if token not in row:
        raise Unfit(
            f"the row of token {token} has no entry for it: the server has read other tokens"
        )
    return row[token]
