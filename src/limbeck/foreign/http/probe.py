"""What a server can do, found out before the first text."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.errors import LimbeckError
from limbeck.foreign.http.client import Client, Refused
from limbeck.foreign.http.server import Server
from limbeck.foreign.http.texts import Text, as_text, check_vocabulary
from limbeck.foreign.http.wire import Answer, Echo, Form, Ids, PromptLogprobs, Unfit

PATH = "/v1/completions"
PROBED = 64  # tokens of a text that are enough to know a server
ENOUGH = 16  # tokens whose mean log probability tells a language model from chance
APART = 0.1  # nats between the same entries at two temperatures


@dataclass(frozen=True)
class Capabilities:
    """What a server can do.

    Attributes:
        model: the model that is asked.
        form: how it tells of a prompt's tokens.
        k: entries of a row, of those that were wanted.
        raw: whether log probabilities are of the model itself, at any temperature of the request;
            at temperature 1, which limbeck asks for, both are the same.
        longest: tokens of the longest text that it takes, where it says so.
    """

    model: str
    form: Form
    k: int
    raw: bool
    longest: int | None


def probe(server: Server, ids: Sequence[int] | Text, k: int) -> Capabilities:
    """Finds out what a server can do with a text's token ids, and how many entries of k it gives.

    Raises:
        LimbeckError: no log probabilities of a prompt's tokens, or by strings; no token ids in;
            another vocabulary; no answer.
    """

    async def run() -> Capabilities:
        async with Client(server) as client:
            return await probed(client, as_text("the text", ids), k)

    return asyncio.run(run())


async def probed(client: Client, text: Text, k: int) -> Capabilities:
    vocabulary = client.server.vocabulary
    check_vocabulary([text], vocabulary)
    if len(text) < 2 or not 1 <= k <= vocabulary:
        raise LimbeckError(
            f"a probe needs a text of two tokens and k in 1 ... {vocabulary}, got {len(text)} and "
            f"{k}"
        )
    model, longest = await served(client)
    ids = text[: min(PROBED, longest or PROBED)].tolist()
    form = await form_of(client, model, ids)
    most = await largest(client, model, form, ids, k)
    cold = await tell(client, model, form, ids, most)
    check_chance(cold, vocabulary)
    warm = await tell(client, model, form, ids, most, temperature=2.0)
    return Capabilities(model, form, most, distance(cold, warm) < APART, longest)


async def served(client: Client) -> tuple[str, int | None]:
    """The model to ask, and the tokens of the longest text that it takes if it says so."""
    wanted = client.server.model
    try:
        told = await client.get("/v1/models")
        models = {each["id"]: each.get("max_model_len") for each in told["data"]}
    except (Refused, KeyError, TypeError, AttributeError):
        models = {} if wanted is None else {wanted: None}
    if wanted is None and len(models) != 1:
        raise LimbeckError(f"name the model: {client.server.base} has {list(models) or 'no list'}")
    model = next(iter(models)) if wanted is None else wanted
    context = models.get(model)
    return model, None if context is None else context - 1  # one more token is always drawn


async def form_of(client: Client, model: str, ids: Ids) -> Form:
    """The first form that the server answers in."""
    faults: list[LimbeckError] = []
    for form in (PromptLogprobs(), Echo()):
        try:
            await tell(client, model, form, ids, 1)
            return form
        except (Refused, Unfit) as error:
            faults.append(error)
    if all(isinstance(fault, Refused) for fault in faults) and await texts_alone(client, model):
        raise LimbeckError(f"{client.server.base} takes texts, but no token ids; vLLM takes both")
    prompt, echo = faults
    raise LimbeckError(
        f"{client.server.base} must give log probabilities of a prompt's tokens by id, as vLLM "
        f"does; with prompt_logprobs: {prompt}; with echo: {echo}"
    )


async def texts_alone(client: Client, model: str) -> bool:
    """Whether a server that refuses token ids takes a text."""
    return not await takes(client, model, [0]) and await takes(client, model, "a")


async def takes(client: Client, model: str, prompt: Any) -> bool:
    try:
        await client.post(PATH, {"model": model, "prompt": prompt, "max_tokens": 1})
    except Refused:
        return False
    return True


async def largest(client: Client, model: str, form: Form, ids: Ids, k: int) -> int:
    """k, or the most entries that the server gives; 1 is known to work."""
    low, high = 1, k + 1
    asked = k
    while low < high - 1:
        given = await entries(client, model, form, ids, asked)
        if given >= asked:
            low = asked
        elif given:
            return given
        else:
            high = asked
        asked = (low + high) // 2
    return low


async def entries(client: Client, model: str, form: Form, ids: Ids, k: int) -> int:
    """How many entries the server gives if it is asked for k, 0 if it refuses."""
    try:
        return (await tell(client, model, form, ids, k)).fewest()
    except Refused:
        return 0


async def tell(
    client: Client, model: str, form: Form, ids: Ids, k: int, *, temperature: float = 1.0
) -> Answer:
    """What the server says of a text.

    Raises:
        LimbeckError: a token outside the vocabulary.
        Refused: by the server.
        Unfit: an answer that is not what was asked for.
    """
    body = {"model": model, "temperature": temperature, **form.body(ids, k)}
    answer = read(await client.post(PATH, body), form, ids)
    highest = max((max(row) for row in answer.rows), default=0)
    if highest >= client.server.vocabulary:
        raise LimbeckError(
            f"{client.server.base} names the token {highest}, but the vocabulary is 0 ... "
            f"{client.server.vocabulary - 1}; teacher and student must have one tokenizer"
        )
    return answer


def read(told: Any, form: Form, ids: Ids) -> Answer:
    try:
        choice: Mapping[str, Any] = told["choices"][0]
        return form.answer(choice, ids)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, LimbeckError):
            raise
        raise Unfit(f"the answer has another form ({error!r})") from error


def check_chance(answer: Answer, vocabulary: int) -> None:
    """Raises LimbeckError for a text that the model finds less likely than tokens by chance."""
    mean = sum(answer.own) / len(answer.own)
    if len(answer.own) >= ENOUGH and mean < -math.log(vocabulary):
        raise LimbeckError(
            f"the teacher gives the tokens of a text a mean log probability of {mean:.2f}, less "
            f"than chance ({-math.log(vocabulary):.2f}); its tokenizer must be another one"
        )


def distance(a: Answer, b: Answer) -> float:
    """The mean difference of log probabilities, over the entries that both have."""
    gaps = [
        abs(ours[token] - theirs[token])
        for ours, theirs in zip(a.rows, b.rows, strict=True)
        for token in ours.keys() & theirs.keys()
        if math.isfinite(ours[token]) and math.isfinite(theirs[token])
    ]
    return sum(gaps) / max(len(gaps), 1)
