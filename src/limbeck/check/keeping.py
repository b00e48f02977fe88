"""What sources that are no networks keep between steps."""

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor

from limbeck.sources import Past, Source
from limbeck.sources.several import Several


def keeping(source: Source, own: Mapping[str, Tensor], wants: list[str]) -> list[dict[str, Any]]:
    """A row for each memory of the student's past in a source that is asked for `wants`.

    `own` are the student's signals (B, ...).
    """
    if isinstance(source, Several):
        return [row for each in source.sources for row in keeping(each, own, wants)]
    if not isinstance(source, Past):
        return []
    width = sum(prod(own[want].shape[1:]) for want in source.reads(wants))
    return [
        {
            "samples": source.samples,
            "numbers": width,
            "dtype": str(source.dtype).removeprefix("torch."),
            "bytes": Past.bytes(source.samples, width, source.dtype),
            "device": source.device.type,
        }
    ]
