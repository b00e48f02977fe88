"""A frozen teacher: in eval mode on every call, without gradient, its buffers untouched."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.reader import Reader, Signal
from limbeck.signals import Batch, Signals
from limbeck.sources.source import Source


class Frozen(Source):
    """A model that teaches and never learns.

    Args:
        model: the teacher; it is never registered with the distiller, so it is not trained, saved
            or counted, and follows device moves alone.
        inputs: what the teacher does to the batch's inputs (normalisation, size, a field).
        names: signal names of its own, as for `Reader`.
        hidden: modules that do not give what they did, by path, each with the reason.

    Raises:
        LimbeckError: of `check`, for a signal of a hidden module.

    Example:
        >>> teacher = Frozen(nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5)))
        >>> teacher(Batch(torch.ones(1, 4)), Signals(), ["output"])["output"].requires_grad
        False
    """

    early = True

    def __init__(
        self,
        model: nn.Module,
        *,
        inputs: Callable[[Any], Any] | None = None,
        names: Mapping[str, Signal] | None = None,
        hidden: Mapping[str, str] | None = None,
    ) -> None:
        self.hidden = dict(hidden or {})
        self.reader = Reader(model, inputs=inputs, names=names)
        self.model = model
        self.parts = sorted(model.modules(), key=lambda part: not part._parameters)

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        self.rest()
        with torch.no_grad():
            inputs, dtype = self.reader.adapt(batch.inputs), self.dtype()
            if not (isinstance(inputs, Tensor) and inputs.dtype is dtype):
                inputs = cast(inputs, dtype)
            return self.reader.read(inputs, wants)[1]

    @property
    def inputs(self) -> Callable[[Any], Any]:
        """The teacher's view of the batch's inputs."""
        return self.reader.adapt

    def dtype(self) -> torch.dtype | None:
        """The teacher's own precision."""
        for part in self.parts:
            for parameter in part._parameters.values():
                if parameter is not None and parameter.is_floating_point():
                    return parameter.dtype
        return None

    def rest(self) -> None:
        """Puts every part back into eval mode, whoever changed it."""
        for part in self.parts:
            if part.training:
                part.training = False

    def check(self, wants: Sequence[str]) -> None:
        for tap in self.reader.attach(wants).taps:
            if tap.path in self.hidden:
                raise LimbeckError(f"{tap.name!r} {self.hidden[tap.path]}")

    def modules(self) -> list[nn.Module]:
        return [self.model]


def cast(inputs: Any, dtype: torch.dtype | None) -> Any:
    """Floating tensors of the inputs in `dtype`; everything else as it is."""
    if isinstance(inputs, Tensor):
        fits = dtype is None or not inputs.is_floating_point() or inputs.dtype == dtype
        return inputs if fits else inputs.to(dtype)
    if isinstance(inputs, Mapping):
        return {key: cast(value, dtype) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        values = [cast(value, dtype) for value in inputs]
        return type(inputs)(*values) if hasattr(inputs, "_fields") else type(inputs)(values)
    return inputs


def as_source(name: str, source: Any) -> Source:
    """A plain module or a reader as the frozen teacher that it is meant to be."""
    if isinstance(source, Source):
        return source
    if isinstance(source, Reader):
        return Frozen(source.model, inputs=source.inputs, names=source.names)
    if isinstance(source, nn.Module):
        return Frozen(source)
    raise TypeError(
        f"{name!r} must be an nn.Module, a Reader or a Source, got {type(source).__name__}"
    )
