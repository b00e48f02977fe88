"""Numbers of a recipe that move with training progress."""

from typing import Annotated, Any, Literal

from pydantic import Field

from limbeck.schedules import Cosine, Linear, Schedule
from limbeck.train.settings import Block


class Ramp(Block):
    """A number that moves with training progress."""

    schedule: Literal["linear", "cosine"] = Field(description="its shape")
    start: float = Field(description="value at the start")
    stop: float = Field(description="value from `until` on")
    until: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="fraction of the training")

    def made(self) -> Schedule:
        shape = Linear if self.schedule == "linear" else Cosine
        return shape(self.start, self.stop, self.until)


def is_ramp(value: Any) -> bool:
    return isinstance(value, dict) and "schedule" in value
