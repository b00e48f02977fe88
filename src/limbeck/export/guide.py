"""The README of an exported folder; its code runs as it stands."""

from importlib.resources import files

from limbeck.export.code import Code
from limbeck.export.view import View
from limbeck.tasks import CLASSIFICATION, Task


def guide(code: Code, view: View, onnx: bool, task: Task = CLASSIFICATION) -> str:
    """How to load and run what lies beside it, with torch or with onnxruntime."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    text = (files("limbeck.export") / "guide.md.jinja").read_text(encoding="utf-8")
    modes = ["RGB"] if view.image[0] == 3 else ["L", "RGB"][: 1 if len(view.mean) == 1 else 2]
    convert = "".join(f'.convert("{mode}")' for mode in modes)
    what, outputs, reading = task.guide
    return environment.from_string(text).render(
        code=code,
        view=view,
        onnx=onnx,
        convert=convert,
        what=what,
        outputs=outputs,
        reading=reading,
    )
