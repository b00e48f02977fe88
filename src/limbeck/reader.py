"""A reader gives a model its signals: names for its output, its modules and what follows them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.taps import Taps, describe, select

Signal = str | Callable[[Mapping[str, Any]], Any]


class Plan(NamedTuple):
    """How wanted signals come from one forward: from taps, fields of the output, own names."""

    taps: Taps
    fields: list[tuple[str, list[str]]]
    wanted: list[tuple[str, Signal]]
    bare: bool  # nothing but the output is wanted


class Reader:
    """Runs a model and reads named signals of that one forward.

    `"output"` is what the model returned, `"output.logits"` or `"output.hidden_states.6"` a field
    of it; any other name is a module path. `names` adds names of your own: a path, or a function of
    the signals that it reads.

    Args:
        model: any module.
        inputs: what to do to the batch's inputs first (normalisation, size, choice of a field).
        names: name -> path, or name -> function of the model's other signals.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> reader = Reader(net, names={"hidden": "1", "first": lambda s: s["output"][:, :1]})
        >>> output, signals = reader.read(torch.zeros(3, 4), ["hidden", "first"])
        >>> [tuple(signals[name].shape) for name in ("hidden", "first")]
        [(3, 8), (3, 1)]
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        inputs: Callable[[Any], Any] | None = None,
        names: Mapping[str, Signal] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"a model must be an nn.Module, got {type(model).__name__}")
        self.model, self.inputs, self.names = model, inputs, dict(names or {})
        self.plans: dict[tuple[str, ...], Plan] = {}

    def paths(self, wants: Sequence[str]) -> list[str]:
        """The model's own signals that `wants` come from, each once."""
        named = [self.names.get(want, want) for want in wants]
        if any(callable(signal) for signal in named):
            named += self.names.values()
        return list(dict.fromkeys(path for path in named if isinstance(path, str)))

    def attach(self, wants: Sequence[str]) -> Taps:
        """The taps for `wants`; raises LimbeckError for a name that the model does not have."""
        return self.plan(tuple(wants)).taps

    def plan(self, wants: tuple[str, ...]) -> Plan:
        """How `wants` are read, worked out once."""
        if wants not in self.plans:
            paths = self.paths(wants)
            inside = [path for path in paths if not is_output(path)]
            taps = Taps(self.model, inside, ["output", *self.names])
            fields = [(path, path.split(".")[1:]) for path in paths if is_output(path)]
            wanted = [(want, self.names.get(want, want)) for want in wants]
            self.plans[wants] = Plan(taps, fields, wanted, wanted == [("output", "output")])
        return self.plans[wants]

    def adapt(self, inputs: Any) -> Any:
        """The inputs as the model wants them."""
        return inputs if self.inputs is None else self.inputs(inputs)

    def read(self, inputs: Any, wants: Sequence[str]) -> tuple[Any, dict[str, Any]]:
        """What the model returned for adapted inputs, and the wanted signals."""
        key = tuple(wants)
        taps, fields, named, bare = self.plans.get(key) or self.plan(key)
        signals: dict[str, Any] = {}
        if taps.taps:
            with taps:
                output = call(self.model, inputs)
            signals = taps.read()
        else:
            output = self.model(inputs) if isinstance(inputs, Tensor) else call(self.model, inputs)
            if bare and isinstance(output, Tensor):
                return output, {"output": output}
        for path, inner in fields:
            signals[path] = select(output, inner, path) if inner else output
        wanted = {}
        for want, name in named:
            value = signals[name] if isinstance(name, str) else name(Named(self, signals, output))
            if not isinstance(value, Tensor):
                raise LimbeckError(
                    f"signal {want!r} must be a tensor, but it is {describe(value)}; add a field"
                )
            wanted[want] = value
        return output, wanted


class Answer(nn.Module):
    """A reader's `"output"` signal as a model of its own, for adapted inputs."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.model, self.reader = reader.model, reader

    def forward(self, x: Tensor) -> Tensor:
        weight = next(self.model.parameters(), x)
        return self.reader.read(x.to(weight.dtype), ["output"])[1]["output"]


class Named(Mapping[str, Any]):
    """What a naming function may read: any field of the output, and the reader's other names."""

    def __init__(self, reader: Reader, signals: Mapping[str, Any], output: Any) -> None:
        self.reader, self.signals, self.output = reader, signals, output

    def __getitem__(self, name: str) -> Any:
        if is_output(name):
            return select(self.output, name.split(".")[1:], name)
        path = self.reader.names.get(name, name)
        if isinstance(path, str) and path in self.signals:
            return self.signals[path]
        raise LimbeckError(
            f"a naming function may read the output and {sorted(self)}, got {name!r}"
        )

    def __iter__(self) -> Any:
        return iter(self.signals)

    def __len__(self) -> int:
        return len(self.signals)


def is_output(path: str) -> bool:
    return path == "output" or path.startswith("output.")


def call(model: nn.Module, inputs: Any) -> Any:
    """`model(x)`, `model(*x)` or `model(**x)`, by the kind of the inputs."""
    if isinstance(inputs, (Tensor, list)):
        return model(inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    raise LimbeckError(
        f"inputs must be a tensor, a list, a tuple or a mapping, got {type(inputs).__name__}; "
        "unpack it in the reader: Reader(model, inputs=lambda batch: batch.images)"
    )
