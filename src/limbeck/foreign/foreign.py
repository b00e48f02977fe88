"""A teacher of any framework as a source."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, close
from limbeck.foreign.layouts import OTHER, arranged, channels_first, typed
from limbeck.foreign.logits import as_logits
from limbeck.foreign.runner import Runner
from limbeck.foreign.spec import Layout, Spec, as_list
from limbeck.signals import Batch, Signals
from limbeck.sources import Source


class Foreign(Source):
    """A frozen teacher behind a `Spec`: `"output"` is its logits (B, ..., classes) in float32.

    Its other outputs are signals by their own names; feature maps come as (B, C, H, W) from
    teachers of either layout. A binary model's single column z is [0, z]. Models that are made for
    one batch size are asked in batches of that size. Nothing is learnt, nothing is written to the
    batch, and everything is on the batch's device.

    Args:
        runner: the model.
        spec: what it takes and gives.
        inputs: what is done to the batch's inputs first, as for `Frozen`.
        order: names of the classes as the student has them; columns are put in this order, and
            those of other classes are left out.

    Raises:
        LimbeckError: inputs or answers that are not what the spec says.
    """

    early = True

    def __init__(
        self,
        runner: Runner,
        spec: Spec,
        *,
        inputs: Callable[[Any], Any] | None = None,
        order: Sequence[str] | None = None,
    ) -> None:
        self.runner, self.spec, self.inputs = runner, spec, inputs
        self.order = None if order is None else tuple(order)
        self.index = None if order is None else torch.tensor(spec.place(order))
        takes = runner.takes.dtype
        if takes is not None and takes != spec.dtype:
            raise LimbeckError(f"{runner.name} takes {takes}, not {spec.dtype}: say dtype: {takes}")

    @property
    def classes(self) -> int | tuple[str, ...]:
        """The classes of its logits, in order: names, or how many."""
        return self.spec.classes if self.order is None else self.order

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        x = self.adapted(batch.inputs)
        found = self.ask(x, wants, self.spec.layout)
        if "output" in found:
            found["output"] = self.logits(found["output"])
        return {
            want: channels_first(found[want].float(), self.spec.layout).to(x.device)
            for want in wants
        }

    def adapted(self, inputs: Any) -> Tensor:
        """What the teacher looks at, before its layout."""
        x = inputs if self.inputs is None else self.inputs(inputs)
        if not isinstance(x, Tensor):
            raise LimbeckError(
                f"{self.runner.name} takes one tensor, got {type(x).__name__}; give inputs= what "
                "picks it"
            )
        return x.detach()

    @torch.no_grad()
    def ask(self, x: Tensor, wants: Sequence[str], layout: Layout) -> dict[str, Tensor]:
        """Its outputs as they are, for inputs in a layout."""
        ready = typed(arranged(x, layout), self.spec.dtype)
        self.check_shape(ready, x, layout)
        size = (self.runner.takes.shape or (None,))[0]
        pieces = [ready] if size is None else list(ready.split(size))
        answers = [self.piece(piece, size, wants) for piece in pieces]
        return {want: torch.cat([answer[want] for answer in answers]) for want in wants}

    def piece(self, x: Tensor, size: int | None, wants: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of a part of the batch; the last row is repeated to fill a fixed size."""
        rows = len(x)
        if size is not None and rows < size:
            x = torch.cat((x, x[-1:].expand(size - rows, *x.shape[1:])))
        found = self.runner(x, wants)
        for want in wants:
            if want not in found:
                raise LimbeckError(
                    f"{self.runner.name} gives {list(found)}, got {want!r}{close(want, found)}"
                )
        return {want: self.tensor(found[want], len(x))[:rows] for want in wants}

    def tensor(self, value: Any, rows: int) -> Tensor:
        """An output as a detached tensor with a row for each sample."""
        name = self.runner.name
        x = value.detach() if isinstance(value, Tensor) else own(value, name)
        if not x.is_floating_point():
            raise LimbeckError(
                f"{name} must answer floating-point numbers, got {x.dtype}: hard classes are no "
                "logits or probabilities"
            )
        if not x.ndim or len(x) != rows:
            raise LimbeckError(
                f"{name} must answer a row for each of {rows} samples, got shape {tuple(x.shape)}"
            )
        return x

    def check_shape(self, ready: Tensor, x: Tensor, layout: Layout) -> None:
        """Raises LimbeckError where the model itself says that it takes another shape."""
        takes = self.runner.takes.shape
        if takes is None or fits(ready, takes):
            return
        other = OTHER[layout]
        cure = "give inputs= what makes such inputs"
        if x.ndim == 4 and fits(arranged(x, other), takes):
            cure = f"say layout: {other}"
        shown = ", ".join("B" if n is None else str(n) for n in takes)
        raise LimbeckError(
            f"{self.runner.name} takes ({shown}), got {tuple(ready.shape)} in layout {layout}; "
            f"{cure}"
        )

    def columns_of(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """Its answer as it is, classes on the last axis, for inputs in its layout or another."""
        answer = self.ask(x, ["output"], layout or self.spec.layout)["output"]
        try:
            return self.columns(answer)
        except LimbeckError as error:
            raise LimbeckError(f"{self.runner.name}: {error}") from error

    def logits(self, answer: Tensor) -> Tensor:
        """An answer as logits in the student's order of the classes."""
        try:
            logits = as_logits(self.columns(answer), self.spec.output)
        except LimbeckError as error:
            raise LimbeckError(f"{self.runner.name}: {error}") from error
        if logits.shape[-1] == 1 and self.spec.columns == 2:
            logits = torch.cat((torch.zeros_like(logits), logits), -1)
        return (
            logits if self.index is None else logits.index_select(-1, self.index.to(logits.device))
        )

    def columns(self, answer: Tensor) -> Tensor:
        """An answer with its classes on the last axis, as many as the spec says."""
        x = answer[:, None] if answer.ndim == 1 else answer
        single = x.shape[-1] == 1 and self.spec.columns == 2
        if single and self.spec.output in ("logits", "sigmoid"):
            return x
        if x.shape[-1] != self.spec.columns:
            cure = f"say {x.shape[-1]} classes, or pick another answer"
            if single:
                cure = (
                    "say output: sigmoid if its one column is the probability of the second class"
                )
            raise LimbeckError(
                f"it must answer {self.spec.columns} classes on the last axis, got shape "
                f"{tuple(answer.shape)}; {cure}"
            )
        return x

    def about(self) -> dict[str, Any]:
        """What its signals depend on, for a store.

        Raises:
            LimbeckError: a teacher or `inputs` that cannot say what it is.
        """
        adapter = self.inputs
        if adapter is not None and not dataclasses.is_dataclass(adapter):
            raise LimbeckError(
                f"inputs={adapter!r} cannot say what it does; use a dataclass such as "
                "Preprocess(...), so that a store can tell whether it changed"
            )
        return {
            "teacher": self.runner.identity(),
            "spec": self.spec.as_json(),
            "inputs": None if adapter is None else repr(adapter),
            "order": None if self.order is None else as_list(self.order),
        }

    def check(self, wants: Sequence[str]) -> None:
        names = self.runner.names
        for want in wants:
            if names is not None and want != "output" and want not in names:
                known = ["output", *names]
                raise LimbeckError(
                    f"{self.runner.name} gives {known}, got {want!r}{close(want, known)}"
                )

    def modules(self) -> list[nn.Module]:
        return self.runner.modules()

    def close(self) -> None:
        """Ends the process of a teacher that has one; it cannot be asked again."""
        self.runner.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Foreign":
        """Itself: it never changes, and what runs it cannot be copied."""
        return self


def own(value: Any, name: str) -> Tensor:
    """An array as a tensor of its own memory, whatever the framework does with the array's."""
    try:
        return torch.from_numpy(np.array(value))
    except TypeError as error:
        raise LimbeckError(
            f"{name} must answer arrays of numbers, got {type(value).__name__}; give what it "
            "answers as NumPy arrays"
        ) from error


def fits(x: Tensor, takes: Sequence[int | None]) -> bool:
    """Whether a batch has the shape that a model takes, whatever the batch size."""
    return x.ndim == len(takes) and all(
        theirs is None or ours == theirs
        for ours, theirs in zip(x.shape[1:], takes[1:], strict=True)
    )
