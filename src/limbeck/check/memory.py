"""How much memory a training needs."""

import re
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from limbeck.sources import Recorded, Source
from limbeck.sources.several import Several
from limbeck.train import Training


def memory_rule(
    student_params: float,
    teacher_params: float = 0,
    bytes_per: float = 4,
    *,
    teacher_bytes_per: float | None = None,
    copies: int = 2,
) -> dict[str, int]:
    """Bytes of weights, gradients, optimizer state and teacher; activations come on top.

    total = (1 + 1 + copies) * student_params * bytes_per + teacher_params * teacher_bytes_per

    Args:
        bytes_per: of a number: 4 in float32, 2 in bfloat16.
        teacher_bytes_per: of a number of the teacher; as the student's unless said. A teacher
            whose answers were recorded has no parameters here.
        copies: numbers that training keeps for each of the student's: Adam 2, SGD with momentum 1.

    Example:
        >>> memory_rule(3e9, 14e9, 2)["total"], memory_rule(3e9, bytes_per=2)["total"]
        (52000000000, 24000000000)
    """
    weights = round(student_params * bytes_per)
    teacher = round(
        teacher_params * (bytes_per if teacher_bytes_per is None else teacher_bytes_per)
    )
    return {
        "weights": weights,
        "gradients": weights,
        "optimizer": copies * weights,
        "teacher": teacher,
        "total": (2 + copies) * weights + teacher,
    }


def copies_of(settings: Training) -> int:
    """How many numbers training keeps for each parameter, beside its gradient.

    >>> copies_of(Training(optimizer="SGD")), copies_of(Training(optimizer="AdamW", ema=0.999))
    (1, 3)
    """
    squares = {"SGD": 0, "RMSprop": 1, "Adam": 1, "AdamW": 1}[settings.optimizer]
    means = settings.optimizer.startswith("Adam") or settings.momentum > 0
    return squares + means + (settings.ema is not None)


def record_bytes(source: Source, answer: Mapping[str, Tensor]) -> int:
    """What a recorded source will remember: float32, every view of every sample.

    `answer` holds the signals (B, ...) that are asked of it.
    """
    if isinstance(source, Several):
        return sum(record_bytes(each, answer) for each in source.sources)
    if not isinstance(source, Recorded):
        return 0
    return 4 * source.views * source.samples * sum(prod(s.shape[1:]) for s in answer.values())


def forget_peak(device: torch.device) -> None:
    """What the device held so far does not count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int | None:
    """The most bytes that the device, or this process, has held; None where that is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return own_peak() if device.type == "cpu" else None


def own_peak() -> int | None:
    """The most bytes that this process has held. Linux's `ru_maxrss` begins at its parent's."""
    status = Path("/proc/self/status")
    told = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else "")
    if told:
        return 1024 * int(told[1])
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
