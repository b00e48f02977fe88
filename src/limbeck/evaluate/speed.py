"""How fast a network answers, here and now."""

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.modes import evaluating

WARM_UP, FEWEST, SECONDS = 2, 3, 0.2


def speed(model: nn.Module, inputs: Tensor) -> dict[str, Any]:
    """Latency in ms for the first of adapted `inputs`, and images/s for all of them at once.

    Each is the median of repeated calls after a warm-up, in eval mode, without gradients.
    """
    with torch.inference_mode(), evaluating(model):
        alone, together = seconds(model, inputs[:1]), seconds(model, inputs)
    return {
        "latency_ms": 1000 * alone,
        "throughput": len(inputs) / together,
        "batch_size": len(inputs),
        "threads": torch.get_num_threads(),
        "device": inputs.device.type,
    }


def seconds(model: nn.Module, inputs: Tensor) -> float:
    """The median time of a call: at least three calls, more where they are short."""
    for _ in range(WARM_UP):
        timed(model, inputs)
    times: list[float] = []
    while len(times) < FEWEST or sum(times) < SECONDS:
        times.append(timed(model, inputs))
    return statistics.median(times)


def timed(model: nn.Module, inputs: Tensor) -> float:
    wait(inputs.device)
    start = time.perf_counter()
    model(inputs)
    wait(inputs.device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
