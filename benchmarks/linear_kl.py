"""KL over large vocabularies: time, memory and accuracy of the ways to compute it, on one thread.

    python benchmarks/linear_kl.py [--tokens N] [--repeats N] [--quick] [--write]

A step is the value and its gradients. From the hidden states of both models (256 and 512 wide) the
naive form makes all logits; from logits that exist it makes their log-probabilities. Every way runs
in a process of its own, so that its peak is its own: the resident memory above the inputs in the
first step after a warm-up (compiled code is compiled there), as Linux counts it. The time is the
processor's, the least of the repeats. Errors are relative to float64, of the value and of the
largest entry of the gradient. Targets: from hidden states at most 0.15 of the naive memory and
faster; from logits under 1.5 buffers of their size and at least 3 times faster; errors of 1e-5.
"""

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck import losses

T, STUDENT, TEACHER, BLOCK = 2.0, 256, 512, 16
RESULT = Path(__file__).parent / "results" / "linear_kl.json"
Way = Callable[..., Tensor]


def naive(s: Tensor, t: Tensor) -> Tensor:
    log_q, p = F.log_softmax(s / T, -1), F.softmax(t / T, -1)
    return F.kl_div(log_q, p, reduction="batchmean") * T**2


def naive_linear(h: Tensor, w: Tensor, t_h: Tensor, t_w: Tensor) -> Tensor:
    with torch.no_grad():
        t = t_h @ t_w.t()
    return naive(h @ w.t(), t)


def compiled(way: Way) -> Way:
    return torch.compile(way, dynamic=False)


def over_logits(s: Tensor, t: Tensor) -> Tensor:
    return losses.chunked_kl(s, t, temperature=T)


def over_hidden(h: Tensor, w: Tensor, t_h: Tensor, t_w: Tensor) -> Tensor:
    return losses.linear_kl(h, w, t_h, t_w, temperature=T)


def plain(s: Tensor, t: Tensor) -> Tensor:
    return losses.kl(s, t, temperature=T)


WAYS: dict[str, dict[str, Callable[[], Way]]] = {
    "hidden states": {
        "naive": lambda: naive_linear,
        "naive, compiled": lambda: compiled(naive_linear),
        "linear_kl": lambda: over_hidden,
    },
    "logits": {
        "naive": lambda: naive,
        "naive, compiled": lambda: compiled(naive),
        "kl": lambda: plain,
        "chunked_kl": lambda: over_logits,
    },
}


class Task(NamedTuple):
    """One way at one size."""

    inputs: str
    way: str
    tokens: int
    vocabulary: int
    repeats: int


def drawn(task: Task) -> list[Tensor]:
    """The inputs: what the student learns first, then the teacher's."""
    random = torch.Generator().manual_seed(0)
    n, v = task.tokens, task.vocabulary
    if task.inputs == "logits":
        return [torch.empty(n, v).normal_(generator=random) for _ in range(2)]
    shapes = [(n, STUDENT), (v, STUDENT), (n, TEACHER), (v, TEACHER)]
    return [torch.empty(shape).normal_(generator=random).div_(shape[1] ** 0.25) for shape in shapes]


def measure(task: Task) -> dict[str, float]:
    """Seconds a step, bytes above the inputs, errors of the value and of the gradient."""
    torch.set_num_threads(1)
    inputs, way = drawn(task), WAYS[task.inputs][task.way]()
    learned = [x.requires_grad_() for x in inputs[: len(inputs) // 2]]

    def step() -> Tensor:
        for x in learned:
            x.grad = None
        value = way(*inputs)
        value.backward()
        return value.detach()

    step()
    for x in learned:
        x.grad = None
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    value = step()
    peak = resident("VmHWM") - before
    seconds = min(timed(step) for _ in range(task.repeats))
    errors = distances(task, value, inputs)
    return {"seconds": seconds, "bytes": peak, "value": errors[0], "gradient": errors[1]}


def timed(step: Callable[[], Tensor]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def resident(line: str) -> int:
    """Bytes of this process: now (VmRSS) or at most since the peak was cleared (VmHWM)."""
    found = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(found[line].split()[0]) * 1024


def distances(task: Task, value: Tensor, inputs: list[Tensor]) -> tuple[float, float]:
    """Relative errors of the value, and of the gradients of what the student learns."""
    exact, gaps, largest = 0.0, 0.0, 0.0
    for i in range(0, task.tokens, BLOCK):
        rows = slice(i, i + BLOCK)
        s, t = (logits(task, inputs, side, rows) / T for side in (0, 1))
        p, log_p, log_q = t.softmax(-1), t.log_softmax(-1), s.log_softmax(-1)
        exact += T**2 / task.tokens * float((p * (log_p - log_q)).sum())
        g = (log_q.exp() - p) * T / task.tokens
        if task.inputs != "logits":
            g = g @ inputs[1].detach().double()
        assert inputs[0].grad is not None
        gaps = max(gaps, float((inputs[0].grad[rows] - g).abs().max()))
        largest = max(largest, float(g.abs().max()))
    return abs(float(value) - exact) / exact, gaps / largest


def logits(task: Task, inputs: list[Tensor], side: int, rows: slice) -> Tensor:
    """In double precision, of the student (0) or the teacher (1)."""
    if task.inputs == "logits":
        return inputs[side].detach()[rows].double()
    hidden, weight = inputs[2 * side : 2 * side + 2]
    return hidden.detach()[rows].double() @ weight.detach().double().t()


def table(task: Task, found: dict[str, dict[str, float]]) -> str:
    unit = task.tokens * task.vocabulary * 4
    base = found["naive"]
    head = f"from {task.inputs}, {task.tokens} tokens, V = {task.vocabulary}"
    columns = f"{'seconds':>8} {'faster':>7} {'memory':>7} {'buffers':>8} {'value':>9}{'grad':>9}"
    lines = [f"{head:44} {columns}"]
    for way, row in found.items():
        faster, memory = base["seconds"] / row["seconds"], row["bytes"] / base["bytes"]
        lines.append(
            f"  {way:42} {row['seconds']:8.3f} {faster:7.2f} {memory:7.3f} "
            f"{row['bytes'] / unit:8.2f} {row['value']:9.1e}{row['gradient']:9.1e}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=512, help="tokens of a step")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each way")
    parser.add_argument("--quick", action="store_true", help="V = 1000, nothing compiled")
    parser.add_argument("--write", action="store_true", help="keep it in results/linear_kl.json")
    options = parser.parse_args()
    kept = []
    for vocabulary in [1000] if options.quick else [32_000, 128_000]:
        for inputs, ways in WAYS.items():
            found = {}
            for way in ways:
                if options.quick and way.endswith("compiled"):
                    continue
                task = Task(inputs, way, options.tokens, vocabulary, options.repeats)
                with multiprocessing.get_context("spawn").Pool(1) as alone:
                    found[way] = alone.apply(measure, (task,))
            print(table(task, found), flush=True)
            kept.append({"inputs": inputs, "vocabulary": vocabulary, "ways": found})
    if options.write:
        about = {"tokens": options.tokens, "repeats": options.repeats, "threads": 1}
        about |= {"machine": platform.machine(), "torch": torch.__version__}
        RESULT.write_text(json.dumps(about | {"tables": kept}, indent=2) + "\n")


if __name__ == "__main__":
    main()
