"""The student's own average as its teacher."""

from collections.abc import Mapping

from torch import Tensor, nn

from limbeck.averages import Average, Buffers
from limbeck.reader import Reader
from limbeck.sources.frozen import Frozen
from limbeck.taps import plain


class Ema(Frozen):
    """The exponential moving average of the student: a teacher that is always one step behind.

    theta' <- d theta' + (1 - d) theta whenever the distiller is advanced, where theta are the
    student's parameters and d is `decay`. It starts as a copy, is in eval mode on every call and
    takes no gradient; the distiller neither trains nor saves it, but its state is what resuming
    needs. It costs a second model in memory and a forward without gradients a step, and averages
    in the student's own precision: give it a student in float32.

    Args:
        student: the module that the distiller trains, or the `Reader` of it.
        decay: d; about 1 / (1 - d) steps count.
        buffers: `"copy"` takes batch statistics and other floating buffers from the student as
            they are, `"average"` averages them too, `"ignore"` leaves them as they were; counters
            and masks are copied always.

    Raises:
        LimbeckError: a decay outside [0, 1), another word for `buffers`.

    Example:
        >>> from limbeck import Distiller, Match, losses, truth
        >>> student = nn.Linear(4, 3)
        >>> objective = truth() + Match(losses.squared_error, source="ema")
        >>> distiller = Distiller(student, {"ema": Ema(student, 0.99)}, objective)
        >>> distiller.advance(0.0)

    Paper:
        Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS 2017, arXiv 1703.01780.
    """

    moves = True

    def __init__(
        self, student: nn.Module | Reader, decay: float = 0.999, *, buffers: Buffers = "copy"
    ) -> None:
        reader = student if isinstance(student, Reader) else Reader(student)
        self.student = plain(reader.model)
        self.average = Average(self.student, decay, buffers)
        super().__init__(self.average.model, inputs=reader.inputs, names=reader.names)

    def advance(self, progress: float) -> None:
        self.average.update(self.student)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(state)
