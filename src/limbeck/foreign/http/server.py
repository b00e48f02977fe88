"""Which server is asked, and how."""

from dataclasses import dataclass, field

from limbeck.errors import LimbeckError
from limbeck.foreign.http.retry import Retry


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server of a language model.

    Args:
        url: its address, with or without `/v1` at the end.
        vocabulary: V, the number of logits of the student: token ids are below it.
        model: which of its models; need not be given where there is one.
        key: sent as `Authorization: Bearer`, written nowhere.
        concurrency: requests at a time, each of one text.
        timeout: seconds that a request may take, all of it.
        retry: what to do when a request fails.

    Raises:
        LimbeckError: an address that is none; numbers out of range.

    >>> Server("http://localhost:8000/v1/", vocabulary=32_000).base
    'http://localhost:8000'
    """

    url: str
    vocabulary: int
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    timeout: float = 120.0
    retry: Retry = field(default_factory=Retry)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise LimbeckError(f"url must start with http:// or https://, got {self.url!r}")
        if self.vocabulary < 2 or self.concurrency < 1 or self.timeout <= 0:
            raise LimbeckError(
                "vocabulary must be at least 2, concurrency at least 1 and timeout above 0, got "
                f"{self.vocabulary}, {self.concurrency} and {self.timeout}"
            )

    @property
    def base(self) -> str:
        """The address before `/v1`."""
        return self.url.rstrip("/").removesuffix("/v1").rstrip("/")
