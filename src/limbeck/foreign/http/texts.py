"""Texts as token ids, and the vocabulary that these are of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import LimbeckError

Text = NDArray[np.int64]


def read_texts(path: str | Path) -> list[Text]:
    """The texts of a file with one JSON object a line, each with its token ids as `input_ids`.

    Raises:
        LimbeckError: no such file; a line that has no list of whole numbers, by its number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LimbeckError(f"{path} must be a file of JSON lines, but {error}") from error
    return [read_line(f"{path}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip()]


def read_line(where: str, line: str) -> Text:
    try:
        ids = json.loads(line)["input_ids"]
    except (ValueError, KeyError, TypeError) as error:
        raise LimbeckError(
            f'{where}: expected {{"input_ids": [...]}}, got {line[:60]!r}; tokenize texts with the '
            "student's tokenizer first"
        ) from error
    return as_text(where, ids)


def as_text(where: str, ids: Any) -> Text:
    """Token ids as an array (T,).

    Raises:
        LimbeckError: anything but whole numbers.
    """
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise LimbeckError(f"{where}: input_ids must be a list of whole numbers, got {array!r:.60}")
    return array.astype(np.int64)


def check_vocabulary(texts: Sequence[Text], vocabulary: int) -> None:
    """Raises LimbeckError for the first text with a token outside 0 ... V - 1."""
    for n, ids in enumerate(texts):
        wrong = ids[(ids < 0) | (ids >= vocabulary)]
        if wrong.size:
            raise LimbeckError(
                f"text {n} has the token {wrong[0]}, but the vocabulary is 0 ... {vocabulary - 1}; "
                "tokenize it with the tokenizer that teacher and student share"
            )


def check_lengths(texts: Sequence[Text], longest: int) -> None:
    """Raises LimbeckError for the first text with more tokens than the server takes."""
    for n, ids in enumerate(texts):
        if len(ids) > longest:
            raise LimbeckError(
                f"text {n} has {len(ids)} tokens, but the server takes {longest}; cut it, or serve "
                "a longer context"
            )


def fingerprint(tokens: Mapping[str, int] | Sequence[str]) -> str:
    """A hash of a tokenizer: which token has which id, whatever the order they are told in.

    Args:
        tokens: as `tokenizer.get_vocab()` gives them, or the tokens in the order of their ids.

    >>> fingerprint({"b": 1, "a": 0}) == fingerprint(["a", "b"])
    True
    """
    if not isinstance(tokens, Mapping):
        tokens = {token: number for number, token in enumerate(tokens)}
    text = json.dumps(sorted((number, token) for token, number in tokens.items()))
    return hashlib.sha256(text.encode()).hexdigest()
