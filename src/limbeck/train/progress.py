"""A bar on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm

from limbeck.train.watch import Watch

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows how far a training is, on stderr."""

    def __init__(self, total: int, start: int = 0, *, quiet: bool = False) -> None:
        self.total, self.quiet = total, quiet
        self.lines = not sys.stderr.isatty()
        self.bar = tqdm(
            total=total, initial=start, disable=quiet or self.lines, unit="step", leave=False
        )
        self.last = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def move(self, step: int, watch: Watch) -> None:
        """One step further."""
        self.bar.update()
        now = time.monotonic()
        if self.lines and not self.quiet and now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            loss, _ = watch.check()
            print(f"step {step}/{self.total}  loss {loss:.4f}", file=sys.stderr, flush=True)
