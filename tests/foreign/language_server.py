"""A real server of a small language model, in the two forms that vLLM and OpenAI answer in.

`python language_server.py 8000 0` serves at a port after some seconds. POST /settings makes it
another server, POST /faults queues what its next requests meet, GET /seen tells what has come. The
model is a recurrent network with random weights, the same in every process.
"""

import json
import math
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY = 1000


class Language(nn.Module):
    """Token ids (B, T) to logits (B, T, V)."""

    def __init__(self, seed: int = 0, scale: float = 12.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.tokens = nn.Embedding(VOCABULARY, 32)
        self.memory = nn.GRU(32, 64, batch_first=True)
        self.head = nn.Linear(64, VOCABULARY)
        self.scale = scale

    def forward(self, ids: Tensor) -> Tensor:
        return self.scale * self.head(self.memory(self.tokens(ids))[0])


@torch.no_grad()
def drawn(model: Language, lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Texts of these lengths, as the model would write them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY, (len(lengths), 1), generator=generator)
    for _ in range(max(lengths) - 1):
        p = model(ids)[:, -1].softmax(-1)
        ids = torch.cat((ids, torch.multinomial(p, 1, generator=generator)), 1)
    return [row[:n].tolist() for row, n in zip(ids, lengths, strict=True)]


@dataclass
class Settings:
    """What the server is like."""

    seed: int = 0
    scale: float = 12.0  # of logits
    forms: tuple[str, ...] = ("prompt_logprobs", "echo")
    limit: int = 20  # entries of a row
    clips: bool = False  # gives fewer entries than asked for instead of refusing
    processed: bool = False  # by the temperature
    ids: bool = True  # names tokens by ids
    takes_ids: bool = True
    possible: int = VOCABULARY  # tokens that are not
    shift: int = 0  # added to the ids that come back
    longest: int | None = None
    pause: float = 0.0  # seconds that an answer takes


class Refusal(Exception):
    """An answer of 400."""


class Service:
    """The model, and what the server has seen."""

    def __init__(self, settings: Settings) -> None:
        self.lock = threading.Lock()
        self.begin(settings)

    def begin(self, settings: Settings) -> None:
        self.settings, self.model = settings, Language(settings.seed, settings.scale)
        self.faults: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.now = self.most = 0

    def fault(self) -> str:
        with self.lock:
            return self.faults.pop(0) if self.faults else ""

    def count(self, change: int) -> None:
        with self.lock:
            self.now += change
            self.most = max(self.most, self.now)

    @torch.no_grad()
    def log_p(self, ids: list[int], temperature: float) -> Tensor:
        """(T, V): row i is of the token after ids[i]."""
        logits = self.model(torch.tensor([ids]))[0]
        logits[:, self.settings.possible :] = -math.inf
        return (logits / (temperature if self.settings.processed else 1.0)).log_softmax(-1)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        if not isinstance(prompt, str) and not self.settings.takes_ids:
            raise Refusal("prompt: Input should be a valid string")
        ids = [ord(letter) for letter in prompt] if isinstance(prompt, str) else prompt
        if max(ids) >= VOCABULARY:
            raise Refusal(f"Token id {max(ids)} is out of vocabulary")
        if self.settings.longest and len(ids) + body["max_tokens"] > self.settings.longest:
            raise Refusal(f"This model's maximum context length is {self.settings.longest} tokens.")
        log_p = self.log_p(ids, body.get("temperature", 1.0))
        choice: dict[str, Any] = {"index": 0, "text": "", "logprobs": None}
        if "prompt_logprobs" in body and "prompt_logprobs" in self.settings.forms:
            choice["prompt_logprobs"] = self.prompt_logprobs(ids, log_p, body["prompt_logprobs"])
        if body.get("echo") and "echo" in self.settings.forms:
            choice["logprobs"] = self.echo(ids, log_p, body["logprobs"])
        return {"object": "text_completion", "choices": [choice]}

    def top(self, row: Tensor, k: int) -> dict[int, float]:
        if k > self.settings.limit and not self.settings.clips:
            raise Refusal(f"Requested {k} logprobs, the maximum is {self.settings.limit}.")
        values, index = row.topk(min(k, self.settings.limit))
        return {
            (token + self.settings.shift): max(x, -9999.0)
            for token, x in zip(index.tolist(), values.tolist(), strict=True)
        }

    def prompt_logprobs(self, ids: list[int], log_p: Tensor, k: int) -> list[Any]:
        found: list[Any] = [None]
        for row, token in zip(log_p, ids[1:], strict=False):
            entries = self.top(row, k)
            entries.setdefault(token + self.settings.shift, max(float(row[token]), -9999.0))
            found.append(
                {
                    self.named(name): {
                        "logprob": x,
                        "rank": int((row > x).sum()) + 1,
                        "decoded_token": f"t{name}",
                    }
                    for name, x in entries.items()
                }
            )
        return found

    def echo(self, ids: list[int], log_p: Tensor, k: int) -> dict[str, Any]:
        """With the one token that is drawn behind the prompt."""
        whole = [*ids, int(log_p[-1].argmax())]
        tops: list[Any] = [None]
        single: list[Any] = [None]
        for row, token in zip(log_p, whole[1:], strict=True):
            tops.append({self.echoed(name): x for name, x in self.top(row, k).items()})
            single.append(float(row[token]))
        names = [self.echoed(token + self.settings.shift) for token in whole]
        return {"tokens": names, "token_logprobs": single, "top_logprobs": tops}

    def named(self, token: int) -> str:
        return str(token) if self.settings.ids else f" t{token}"

    def echoed(self, token: int) -> str:
        return f"token_id:{token}" if self.settings.ids else f" t{token}"


def handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            if self.path == "/seen":
                return self.say(
                    {"bodies": service.seen, "keys": service.keys, "most": service.most}
                )
            entry: dict[str, Any] = {"id": f"lm-{service.settings.seed}"}
            if service.settings.longest:
                entry["max_model_len"] = service.settings.longest
            return self.say({"object": "list", "data": [entry]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/faults":
                service.faults.extend(body)
                return self.say({})
            if self.path == "/settings":
                service.begin(Settings(**body))
                return self.say({})
            service.seen.append(body)
            service.keys.append(self.headers["Authorization"])
            service.count(1)
            try:
                self.complete(body)
            finally:
                service.count(-1)

        def complete(self, body: dict[str, Any]) -> None:
            fault = service.fault()
            if fault == "500":
                return self.say({"error": "the engine is dead"}, 500)
            if fault.startswith("429"):
                return self.say({"error": "slow down"}, 429, {"Retry-After": fault[4:]})
            if fault == "slow":
                time.sleep(1.5)
            time.sleep(service.settings.pause)
            try:
                said = service.complete(body)
            except Refusal as error:
                return self.say({"error": {"message": f"{error}", "code": 400}}, 400)
            return self.say(said, fault=fault)

        def say(
            self, said: Any, status: int = 200, headers: dict[str, str] | None = None, fault=""
        ) -> None:
            content = json.dumps(said).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if fault == "half":  # without a length, so that the client cannot know
                self.send_header("Connection", "close")
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault in ("cut", "half"):
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                return
            self.wfile.write(content)

    return Handler


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone."""


if __name__ == "__main__":
    torch.set_num_threads(1)
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    made = handler(Service(Settings()))
    time.sleep(seconds)
    with Quiet(("127.0.0.1", port), made) as server:
        print("ready", flush=True)
        server.serve_forever()
