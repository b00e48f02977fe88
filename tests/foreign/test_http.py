"""What a real server says of texts is what the store has, whatever went wrong on the way."""

import asyncio
import json
import math
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.foreign.language_server import VOCABULARY, Language, drawn
from torch import nn

from limbeck import losses
from limbeck.cli import main
from limbeck.errors import LimbeckError
from limbeck.foreign.http import (
    Retry,
    Server,
    fingerprint,
    label,
    probe,
    read_texts,
)
from limbeck.foreign.http.client import failed, retry_after
from limbeck.foreign.http.retry import Passing, persist
from limbeck.foreign.http.wire import Echo, PromptLogprobs
from limbeck.store import Store, Writer, by_content, codec, place

SERVER = Path(__file__).with_name("language_server.py")
QUICK = Retry(tries=10, first=0.02, longest=0.1)
LENGTHS = [24, 2, 1, 9, 17, 24, 3, 12, 5, 30]


@pytest.fixture(scope="module")
def model():
    return Language()


@pytest.fixture(scope="module")
def texts(model):
    return drawn(model, LENGTHS)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def process(port, seconds=0.0):
    """The server in a process of its own, that listens after some seconds."""
    command = [sys.executable, str(SERVER), str(port), str(seconds)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield server
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def address():
    port = free_port()
    with process(port) as server:
        assert server.stdout.readline() == "ready\n"
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def serve(address):
    """Makes the server one with these settings, that has seen nothing yet; its address."""

    def serve(**settings):
        post(address, "settings", settings)
        return address

    return serve


@pytest.fixture
def url(serve):
    return serve()


def post(url, path, body):
    httpx.post(f"{url}/{path}", json=body, trust_env=False, timeout=60.0).raise_for_status()


def asked(url, **settings):
    return Server(url, VOCABULARY, **{"retry": QUICK, "timeout": 30.0, **settings})


def seen(url):
    return httpx.get(f"{url}/seen", trust_env=False).json()


def prompts(url, since=0):
    """The distinct texts that were asked for."""
    return {tuple(body["prompt"]) for body in seen(url)["bodies"][since:]}


def read(folder, texts):
    store = Store(place(folder))
    return store.read(by_content([np.array(ids) for ids in texts]), np.zeros(len(texts), int))


def same_as_model(folder, texts, model, k):
    """The store has the model's k largest log probabilities, within the error that it states."""
    found, store = read(folder, texts), Store(place(folder))
    stated = max(shard.told["error"]["output"]["max"] for shard in store.shards)
    assert stated < 0.01
    for n, ids in enumerate(texts):
        rows = len(ids) - 1
        assert int(found["length"][n]) == rows
        with torch.no_grad():
            exact = model(torch.tensor([ids]))[0, :-1].double().log_softmax(-1)
        top = exact.topk(k).values
        index, log_p = found["output.index"][n, :rows], found["output.log_p"][n, :rows]
        assert (index.diff(dim=-1) > 0).all()
        kept = exact.gather(-1, index)
        assert kept.sort(-1, descending=True).values.allclose(top, atol=1e-5)
        assert ((log_p - kept).abs() <= stated + 1e-5).all()
        rest = 1 - kept.exp().sum(-1)
        assert found["output.rest"][n, :rows].exp().double().allclose(rest, atol=1e-3)


@pytest.mark.parametrize("form", ["prompt_logprobs", "echo"])
def test_the_store_has_what_the_model_says(tmp_path, serve, texts, model, form):
    url = serve(forms=[form])
    done = label(asked(url), texts, place(tmp_path), k=12)
    bodies = seen(url)["bodies"]
    assert done.served.form.name == form
    assert (done.texts, done.known, done.served.raw) == (10, 0, True)
    same_as_model(tmp_path, texts, model, 12)
    assert {body["temperature"] for body in bodies[-9:]} == {1.0}
    assert sum(body["temperature"] != 1.0 for body in bodies) == 1, "the probe's alone"


def test_levels_are_stored_within_the_error_that_is_stated(tmp_path, url, texts, model):
    label(asked(url), texts, place(tmp_path), k=20, values="levels")
    stated = Store(place(tmp_path)).shards[0].told["error"]["output"]["max"]
    found = read(tmp_path, texts[:1])
    with torch.no_grad():
        exact = model(torch.tensor(texts[:1]))[0, :-1].log_softmax(-1)
    gap = (exact.gather(-1, found["output.index"][0]) - found["output.log_p"][0]).abs()
    assert 0 < float(gap.max()) <= stated + 1e-5 < 0.1


def test_a_server_tells_what_it_can(serve, texts):
    url = serve(forms=["echo"], processed=True, limit=7, longest=32)
    able = probe(asked(url), texts[0], 12)
    assert (able.model, able.k, able.raw, able.longest) == ("lm-0", 7, False, 31)
    assert isinstance(able.form, Echo)
    able = probe(asked(serve() + "/v1/"), texts[0], 20)
    assert (able.k, able.raw, able.longest) == (20, True, None)
    assert isinstance(able.form, PromptLogprobs)


def test_log_probabilities_that_the_temperature_has_changed_are_asked_for_at_1(
    tmp_path, serve, texts, model
):
    url = serve(processed=True)
    done = label(asked(url), texts, place(tmp_path), k=5)
    assert not done.served.raw
    same_as_model(tmp_path, texts, model, 5)


@pytest.mark.parametrize("clips", [False, True])
def test_more_entries_than_the_server_gives_are_refused_before_anything_is_written(
    tmp_path, serve, texts, clips
):
    url = serve(limit=13, clips=clips)
    with pytest.raises(LimbeckError, match=r"gives 13 entries of a row, got k = 50; ask for 13"):
        label(asked(url), texts, place(tmp_path), k=50)
    assert not list(tmp_path.iterdir())


def test_impossible_tokens_are_masked_and_never_a_value(tmp_path, serve, model):
    """The server writes -9999 for the logarithm of 0, and five tokens are possible."""
    ids = [3, 1, 4, 1, 0]
    url = serve(possible=5)
    label(asked(url), [ids], place(tmp_path), k=8)
    found = read(tmp_path, [ids])
    index, log_p = found["output.index"][0], found["output.log_p"][0]
    assert ((log_p == -math.inf).sum(-1) == 3).all()
    assert not ((log_p < -100) & log_p.isfinite()).any()
    for row, known in zip(index, log_p > -math.inf, strict=True):
        assert row[known].tolist() == [0, 1, 2, 3, 4]
        assert len(set(row.tolist())) == 8, "ids are distinct"
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0, :-1]
    exact = logits[:, :5].log_softmax(-1)
    assert log_p[log_p > -math.inf].view(4, 5).allclose(exact, atol=1e-2)
    assert float(losses.sparse_kl(logits, log_p, index)) > 0, "the student may believe in others"
    logits[:, 5:] = -40.0
    assert float(losses.sparse_kl(logits, log_p, index)) < 1e-3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"forms": []}, "the answer has no prompt_logprobs; .*echo: the answer has no tokens"),
        ({"ids": False}, "named by strings such as ' t[0-9]+', which several ids may share"),
        ({"takes_ids": False}, "takes texts, but no token ids"),
        ({"shift": 5}, "has read other tokens; with echo: the prompt came back as other"),
    ],
)
def test_a_server_that_cannot_do_this_is_refused_with_the_reason(
    tmp_path, serve, texts, settings, told
):
    url = serve(**settings)
    with pytest.raises(LimbeckError, match=told):
        label(asked(url), texts, place(tmp_path), k=5)
    assert not list(tmp_path.iterdir())


def test_another_vocabulary_is_told_by_the_ids(tmp_path, url, texts):
    with pytest.raises(LimbeckError, match="text 1 has the token 1000, but the vocabulary is 0"):
        label(asked(url), [[1, 2], [4, 1000]], place(tmp_path), k=5)
    small = Server(url, 500, retry=QUICK)
    with pytest.raises(
        LimbeckError, match=r"names the token [0-9]+, but the vocabulary is 0 \.\.\."
    ):
        label(small, [[i % 500 for i in ids] for ids in texts], place(tmp_path), k=20)
    large = Server(url, 2000, retry=QUICK)
    with pytest.raises(LimbeckError, match=r"answered 400 .*Token id 1500 is out of vocabulary"):
        label(large, [[1500, 3]], place(tmp_path), k=5)


def test_another_order_of_the_same_ids_is_told_by_the_likelihood(tmp_path, url, texts):
    order = np.random.default_rng(0).permutation(VOCABULARY)
    with pytest.raises(LimbeckError, match=r"less than chance \(-6\.91\); its tokenizer must be"):
        label(asked(url), [order[ids] for ids in texts], place(tmp_path), k=5)


def test_a_store_of_another_tokenizer_is_refused(tmp_path, url, texts):
    ours, theirs = (fingerprint([f"t{i}" for i in range(n)]) for n in (1000, 1001))
    label(asked(url), texts[:3], place(tmp_path), k=5, tokenizer=ours)
    with pytest.raises(LimbeckError, match=f"tokenizer '{ours[:50]}.* here, '{theirs[:50]}"):
        label(asked(url), texts, place(tmp_path), k=5, tokenizer=theirs)


def test_another_teacher_of_the_same_name_is_refused(tmp_path, serve, texts):
    def write(some, **settings):
        label(asked(serve(**settings), model="mine"), some, place(tmp_path), k=5)

    write(texts[:6])
    write(texts)
    with pytest.raises(LimbeckError, match=r"was written by another teacher than .* as 'mine'"):
        write(texts, scale=8.0)
    assert len(Store(place(tmp_path))) == len(texts)


def test_a_text_that_is_too_long_is_named_before_anything_is_written(tmp_path, serve, texts):
    url = serve(longest=25)
    with pytest.raises(LimbeckError, match="text 9 has 30 tokens, but the server takes 24; cut it"):
        label(asked(url), texts, place(tmp_path), k=5)
    assert not list(tmp_path.iterdir())


FAULTS = ["500", "429:0", "cut", "", "half", "slow", "", "429:0.2", "500", "cut", "", "half"]


def test_faults_that_pass_are_lived_through(tmp_path, url, texts, model):
    probe(asked(url), texts[0], 12)  # so that the faults meet requests of all kinds
    post(url, "faults", FAULTS)
    label(asked(url, timeout=1.0, concurrency=3), texts, place(tmp_path), k=12)
    before = len(seen(url)["bodies"])
    post(url, "faults", ["", "", "", "", *FAULTS])
    other = drawn(model, LENGTHS, seed=1)
    label(asked(url, timeout=1.0, concurrency=3), other, place(tmp_path), k=12)
    assert len(seen(url)["bodies"]) > before + len(other)
    same_as_model(tmp_path, texts, model, 12)
    same_as_model(tmp_path, other, model, 12)


def test_a_server_that_is_not_there_yet_is_waited_for(tmp_path, texts):
    port = free_port()
    with process(port, seconds=0.5):
        patient = asked(f"http://127.0.0.1:{port}", retry=Retry(tries=60, first=0.2, longest=0.5))
        label(patient, texts[:2], place(tmp_path), k=5)
    assert len(Store(place(tmp_path))) == 2


def test_a_server_that_never_answers_is_given_up(tmp_path, texts):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LimbeckError, match=r"no answer in 3 tries, the last: .*could not be asked"):
        label(asked(url, retry=Retry(3, 0.01)), texts, place(tmp_path), k=5)


def test_what_had_come_before_a_server_broke_down_is_kept(tmp_path, url, texts):
    probe(asked(url), max(texts, key=len), 5)
    probes = len(seen(url)["bodies"])
    post(url, "faults", [""] * (probes + 4) + ["500"] * 50)
    with pytest.raises(LimbeckError, match=r"text [0-9]: no answer in 4 tries, .*answered 500"):
        label(asked(url, retry=Retry(4, 0.01), concurrency=1), texts, place(tmp_path), k=5)
    assert len(Store(place(tmp_path))) == 5, "four that were asked, one that has a single token"


def test_a_second_run_asks_for_what_is_missing_alone(tmp_path, url, texts, model):
    label(asked(url), texts[:6], place(tmp_path), k=5)
    since = len(seen(url)["bodies"])
    done = label(asked(url), [*texts, texts[7], texts[0]], place(tmp_path), k=5)
    assert (done.texts, done.known) == (10, 6)
    longest, first = max(texts, key=len), texts[0]
    asked_for = prompts(url, since)
    assert asked_for == {tuple(ids) for ids in [*texts[6:], longest, first]}, "and two for probes"
    assert len(Store(place(tmp_path))) == 10
    same_as_model(tmp_path, texts, model, 5)


def test_no_more_requests_are_open_than_were_allowed(tmp_path, serve, model):
    url = serve(pause=0.1)
    label(asked(url, concurrency=3), drawn(model, [5] * 12), place(tmp_path), k=5)
    assert seen(url)["most"] == 3


RUN = """
import json, sys
from limbeck.foreign.http import Server, label
from limbeck.store import place
texts = json.load(open(sys.argv[2]))
label(Server(sys.argv[1], 1000, concurrency=2), texts, place(sys.argv[3]), k=5, shard_bytes=2000)
"""


def test_a_killed_run_loses_a_shard_at_most_and_is_gone_on_with(tmp_path, serve, model):
    texts = drawn(model, [20] * 40)
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    folder = tmp_path / "store"
    url = serve(pause=0.05)
    command = [sys.executable, "-c", RUN, url, str(tmp_path / "texts.json"), str(folder)]
    run = subprocess.Popen(command)
    while not folder.exists() or len(list(folder.glob("shard-*"))) < 3:
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    answered = len(prompts(url))
    kept = len(Store(place(folder)))
    per_shard = Store(place(folder)).shards[0].rows
    assert answered - 2 - per_shard <= kept < 40, "two were on the way"
    done = label(asked(url), texts, place(folder), k=5)
    assert (done.known, done.texts) == (kept, 40)
    assert len(Store(place(folder))) == 40
    same_as_model(folder, texts, model, 5)


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.tokens = nn.Embedding(VOCABULARY, 16)
        self.memory = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, VOCABULARY)

    def forward(self, ids):
        return self.head(self.memory(self.tokens(ids))[0])


@pytest.mark.slow
def test_a_student_learns_from_the_store(tmp_path, url, model):
    """Its divergence to the live teacher on other texts falls, and not its own loss alone."""
    texts, other = drawn(model, [24] * 96), torch.tensor(drawn(model, [24] * 32, seed=9))
    label(asked(url), texts, place(tmp_path), k=20)
    student = Student()
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)

    def live():
        with torch.no_grad():
            return float(losses.kl(student(other), model(other)))

    before, found = live(), []
    for step in range(60):
        some = [texts[i] for i in np.random.default_rng(step).integers(0, 96, 16)]
        signals = read(tmp_path, some)
        logits = student(torch.tensor(some))[:, :-1]
        mask = torch.arange(logits.shape[1])[None] < signals["length"][:, None]
        loss = losses.sparse_kl(logits, signals["output.log_p"], signals["output.index"], mask=mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert sum(found[-10:]) < 0.85 * sum(found[:10])
    assert live() < 0.9 * before


def waits(retry, failures, u=0.5):
    """The seconds that `persist` sleeps while these failures come, and then an answer."""
    left, slept = list(failures), []

    async def ask():
        if left:
            raise left.pop(0)
        return "done"

    async def sleep(seconds):
        slept.append(seconds)

    assert asyncio.run(persist(ask, retry, sleep=sleep, uniform=lambda: u)) == "done"
    return slept


def test_waits_double_up_to_the_longest_with_up_to_half_of_it_left_to_chance():
    failures = [Passing("x") for _ in range(6)]
    retry = Retry(first=1.0, longest=10.0)
    assert waits(retry, failures, 1.0) == [1, 2, 4, 8, 10, 10]
    assert waits(retry, failures, 0.0) == [0.5, 1, 2, 4, 5, 5]


def test_a_server_is_not_asked_before_it_says():
    failures = [Passing("x"), Passing("x", 30.0), Passing("x", 0.0), Passing("x")]
    assert waits(Retry(first=1.0), failures) == [0.75, 30.5, 0.5, 6.0]


def test_too_many_failures_and_too_long_a_wait_end_it():
    with pytest.raises(LimbeckError, match="no answer in 3 tries, the last: broken; see to"):
        waits(Retry(tries=3), [Passing("broken")] * 3)
    with pytest.raises(LimbeckError, match="asks for 4000 s, more than 600"):
        waits(Retry(), [Passing("slow down", 4000.0)])


def test_a_retry_after_is_seconds_or_a_date_and_nothing_if_it_is_neither():
    assert retry_after("2.5", 0.0) == 2.5
    assert retry_after("Thu, 01 Jan 1970 00:10:00 GMT", 500.0) == 100.0
    assert retry_after("Thu, 01 Jan 1970 00:10:00 GMT", 700.0) == 0.0
    assert retry_after("soon", 0.0) is None
    assert retry_after(None, 0.0) is None


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_what_will_not_pass_is_told_at_once_in_one_line(status):
    error = failed("http://x", status, "no\nsuch\n" + "word " * 200, {})
    assert isinstance(error, LimbeckError)
    assert re.fullmatch(rf"http://x answered {status} no such (word )+.*\.\.\.", f"{error}")
    assert len(f"{error}") < 350


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_keeps_what_the_server_asks_for(status):
    error = failed("http://x", status, "", {"retry-after": "3"})
    assert isinstance(error, Passing)
    assert error.wait == 3.0


def test_a_key_is_sent_and_shown_nowhere(tmp_path, url, texts):
    server = asked(url, key="secret")
    label(server, texts[:1], place(tmp_path), k=5)
    told = httpx.get(f"{url}/seen", trust_env=False).json()
    assert set(told["keys"]) == {"Bearer secret"}
    assert "secret" not in repr(server)
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.iterdir())


def test_texts_of_a_file(tmp_path, url, texts, model):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n\n".join(json.dumps({"input_ids": ids}) for ids in texts) + "\n")
    assert [ids.tolist() for ids in read_texts(path)] == texts
    where = str(tmp_path / "s")
    command = ["store", "texts", str(path), where, "--url", url, "--vocabulary", str(VOCABULARY)]
    done = CliRunner().invoke(main, [*command, "--top", "5", "--concurrency", "2"])
    assert done.exit_code == 0, done.output
    same_as_model(tmp_path / "s", texts, model, 5)
    refused = CliRunner().invoke(main, [*command, "--top", "5", "--values", "levels"])
    assert refused.exit_code == 1
    assert "levels" in refused.output
    for wrong in (
        '{"text": "hello"}',
        "[1, 2]",
        '{"input_ids": [1.5]}',
        '{"input_ids": "12"}',
        "{",
    ):
        path.write_text('{"input_ids": [1]}\n' + wrong)
        with pytest.raises(LimbeckError, match=r"texts\.jsonl, line 2: .*input_ids"):
            read_texts(path)
    with pytest.raises(LimbeckError, match="must be a file of JSON lines"):
        read_texts(tmp_path / "none")


def test_texts_without_a_token_to_predict_are_refused(tmp_path, url):
    with pytest.raises(LimbeckError, match="none has two tokens"):
        label(asked(url), [[3], []], place(tmp_path), k=5)


@pytest.mark.parametrize(
    ("index", "log_p", "told"),
    [
        ([[1, 9]], [[-1.0, -2.0]], r"of classes 0 \.\.\. 8, got 9"),
        ([[1, 1]], [[-1.0, -2.0]], "each class once, got one twice"),
        ([[1, 2]], [[-math.inf, -math.inf]], "needs an entry with a probability"),
        ([[1, 2]], [[-1.0, math.nan]], "got NaN"),
        ([[1, 2]], [[-0.1, -0.1]], "must sum to 1 at most, got 1.81"),
    ],
)
def test_entries_that_are_no_part_of_a_distribution_are_refused(index, log_p, told):
    with pytest.raises(LimbeckError, match=told):
        codec("topk", k=2).from_sparse(torch.tensor(index), torch.tensor(log_p), 9)


@pytest.mark.parametrize("values", ["float16", "levels"])
@pytest.mark.parametrize("entries", [3, 6, 9])
def test_entries_are_coded_as_the_logits_that_they_are_the_largest_of(values, entries):
    """More entries than k are cut; with fewer, the kept ones are the same and others impossible."""
    x = 3 * torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    made = codec("topk", k=6, values=values)
    top = x.log_softmax(-1).topk(entries)
    shuffled = torch.randperm(entries, generator=torch.Generator().manual_seed(1))
    coded = made.from_sparse(top.indices[:, shuffled], top.values[:, shuffled], 30)
    found = made.decode(coded.arrays, coded.shape)
    whole = made.decode(made.encode(x, lambda n: np.zeros((40, n))), (30,))
    known = found[".log_p"] > -math.inf
    assert (known.sum(-1) == min(entries, 6)).all()
    assert (found[".index"].diff(dim=-1) > 0).all(), "ascending, so distinct"
    assert found[".index"].max() < 30
    if entries >= 6:
        assert found[".index"].equal(whole[".index"])
        assert found[".log_p"].allclose(whole[".log_p"], atol=2e-3)
        assert found[".rest"].exp().allclose(whole[".rest"].exp(), atol=2e-3)
    else:
        kept = torch.where(known, found[".index"], 99).sort(-1).values[:, :3]
        assert kept.equal(top.indices.sort(-1).values)
        rest = 1 - top.values.exp().sum(-1)
        assert found[".rest"].exp().allclose(rest, atol=2e-3)


def test_filling_stays_behind_the_first_that_is_known_and_goes_round_where_it_must():
    made = codec("topk", k=4)
    index = torch.tensor([[2, 5], [9, 8], [0, 3]])
    coded = made.from_sparse(index, torch.full((3, 2), -1.0), 10)
    found = made.decode(coded.arrays, coded.shape)
    assert found[".index"].tolist() == [[2, 3, 4, 5], [0, 1, 8, 9], [0, 1, 2, 3]]


def test_rows_that_are_coded_already_are_checked_as_others_are(tmp_path):
    made = codec("topk", k=2)
    index, log_p = torch.tensor([[1, 2], [0, 3]]), torch.full((2, 2), -1.0)
    key, view = by_content(["a"]), np.zeros(1, int)
    with Writer(place(tmp_path), {}, {"output": made}, tokens=("output",)) as writer:
        with pytest.raises(LimbeckError, match="output: 3 rows were promised, got 2"):
            writer.add_coded(
                key, view, {"output": made.from_sparse(index, log_p, 9)}, np.array([3])
            )
        with pytest.raises(LimbeckError, match="have rows for tokens: give the lengths"):
            writer.add_coded(key, view, {"output": made.from_sparse(index, log_p, 9)})
        with pytest.raises(LimbeckError, match=r"a row of this store is \(9,\), got \(8,\)"):
            writer.add_coded(
                key, view, {"output": made.from_sparse(index, log_p, 8)}, np.array([2])
            )
    with pytest.raises(LimbeckError, match="holds no shard"):
        Store(place(tmp_path))
