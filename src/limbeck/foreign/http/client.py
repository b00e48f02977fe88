"""Requests that are tried again while their failure may pass."""

import asyncio
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

from limbeck.errors import LimbeckError, need
from limbeck.foreign.http.retry import Passing, persist
from limbeck.foreign.http.server import Server

PASSING = {408, 425, 429}  # and all of 500 and above


class Refused(LimbeckError):
    """An answer that will be the same the next time."""


class Client:
    """A connection to a server; use it in an `async with` block.

    Raises:
        LimbeckError: a server that does not answer for long.
        Refused: an answer of 400 and above that does not pass.
    """

    def __init__(self, server: Server) -> None:
        self.server, self.httpx = server, need("httpx", "http")
        self.http = self.httpx.AsyncClient(
            headers={"Authorization": f"Bearer {server.key}"} if server.key else {},
            timeout=server.timeout,
            limits=self.httpx.Limits(max_connections=server.concurrency),
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.http.aclose()

    async def get(self, path: str) -> Any:
        return await self.ask("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self.ask("POST", path, body)

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        return await persist(lambda: self.once(method, path, body), self.server.retry)

    async def once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """The JSON of one answer; raises Passing or Refused for anything else."""
        url = f"{self.server.base}{path}"
        try:
            async with asyncio.timeout(self.server.timeout):
                response = await self.http.request(method, url, json=body)
        except TimeoutError as error:
            raise Passing(f"{url} took more than {self.server.timeout:g} s") from error
        except self.httpx.RequestError as error:
            told = f"{error}" or type(error).__name__
            raise Passing(f"{url} could not be asked ({told})") from error
        if response.status_code >= 400:
            raise failed(url, response.status_code, response.text, response.headers)
        return parsed(url, response)


def parsed(url: str, response: Any) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise Passing(f"{url} answered with what is no JSON, or a part of it") from error


def failed(url: str, status: int, text: str, headers: Mapping[str, str]) -> Exception:
    """The exception for an answer with this status."""
    told = f"{url} answered {status} {message(text)}".strip()
    if status in PASSING or status >= 500:
        return Passing(told, retry_after(headers.get("retry-after"), time.time()))
    return Refused(told)


def message(text: str) -> str:
    """What an answer says, in one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}..."


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds of a `Retry-After`, which is a number or a date; `now` is in seconds of Unix.

    >>> retry_after("7", 0.0), retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20.0)
    (7.0, 40.0)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return max(seconds, 0.0)
