"""What a foreign teacher takes and gives, said by the person who brings it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from limbeck.errors import LimbeckError, close

Output = Literal["logits", "log_probabilities", "probabilities", "sigmoid"]
Layout = Literal["NCHW", "NHWC", "rows", "rows_nhwc"]
DType = Literal["float32", "float16", "float64", "uint8", "int32", "int64"]


@dataclass(frozen=True)
class Spec:
    """The contract of a teacher that is not a torch module; nothing of it is guessed.

    | field | values |
    |---|---|
    | `output` | `logits`; `log_probabilities`; `probabilities`, which sum to 1 over the classes; |
    | | `sigmoid`, a probability for each class by itself |
    | `classes` | names in the order of the teacher's columns, or how many columns there are |
    | `layout` | of images: `NCHW`, `NHWC`; `rows` (R, F), images flattened as C, H, W; |
    | | `rows_nhwc`, images flattened as H, W, C |
    | `dtype` | of the inputs |

    Raises:
        LimbeckError: a value that is not one of these, a name of a class twice.

    >>> Spec("probabilities", ("cat", "dog"), "NHWC").columns
    2
    """

    output: Output
    classes: int | tuple[str, ...]
    layout: Layout
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        for field, kind in (("output", Output), ("layout", Layout), ("dtype", DType)):
            value, known = getattr(self, field), get_args(kind)
            if value not in known:
                raise LimbeckError(
                    f"{field} must be one of {list(known)}, got {value!r}{close(str(value), known)}"
                )
        names = () if isinstance(self.classes, int) else self.classes
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise LimbeckError(f"classes must have a name each, got {twice[0]!r} twice")
        if self.columns < 1:
            raise LimbeckError(f"classes must be names or how many, got {self.classes!r}")

    @property
    def columns(self) -> int:
        """How many classes there are."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    def as_json(self) -> dict[str, Any]:
        """What JSON can hold; ONNX files carry it under `limbeck` in their metadata."""
        return asdict(self) | {"classes": as_list(self.classes)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Spec":
        """From what `as_json` gave."""
        classes = told["classes"]
        named = classes if isinstance(classes, int) else tuple(classes)
        return cls(told["output"], named, told["layout"], told["dtype"])

    def place(self, order: Sequence[str]) -> tuple[int, ...]:
        """The columns in which the classes named by `order` stand.

        >>> Spec("logits", ("dog", "cat"), "rows").place(("cat", "dog"))
        (1, 0)
        """
        if isinstance(self.classes, int):
            raise LimbeckError(
                "order needs the names of the teacher's columns: give Spec(classes=(...)) as names"
            )
        missing = [name for name in order if name not in self.classes]
        if missing:
            raise LimbeckError(
                f"order names {missing[0]!r}, which the teacher does not know"
                f"{close(missing[0], self.classes)}; it has {listed(self.classes)}"
            )
        return tuple(self.classes.index(name) for name in order)


def as_list(classes: int | tuple[str, ...]) -> int | list[str]:
    return classes if isinstance(classes, int) else list(classes)


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first few names and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
