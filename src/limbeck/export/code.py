"""The Python lines that build a network without limbeck."""

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.models import build
from limbeck.models.factory import factory

ZOO = "limbeck.zoo"


@dataclass(frozen=True)
class Code:
    """How to build a network: for us `build()`, for others an import and a call.

    `source` is the module to ship where the network is one of limbeck's own, as `network.py`.

    >>> code = Code.of("torchvision:resnet18", 10, {})
    >>> print(code.imports, code.call, sep="; ")
    from torchvision.models import get_model; get_model("resnet18", weights=None, num_classes=10)
    """

    model: str
    classes: int
    options: Mapping[str, Any]
    imports: str
    call: str
    source: str | None = None

    @classmethod
    def of(cls, model: str, classes: int, options: Mapping[str, Any]) -> "Code":
        """For `torchvision:NAME`, `timm:NAME` or `package.module:factory`."""
        library, _, name = model.partition(":")
        rest = "".join(f", {key}={value!r}" for key, value in options.items())
        match library:
            case "torchvision":
                imports = "from torchvision.models import get_model"
                call = f"get_model({json.dumps(name)}, weights=None, num_classes={classes}{rest})"
                return cls(model, classes, options, imports, call)
            case "timm":
                call = f"timm.create_model({json.dumps(name)}, num_classes={classes}{rest})"
                return cls(model, classes, options, "import timm", call)
        parameters = inspect.signature(factory(model)).parameters
        count = next((key for key in ("num_classes", "classes") if key in parameters), None)
        keywords = {**({count: classes} if count else {}), **options}
        given = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
        module = "network" if library == ZOO else library
        source = inspect.getsource(sys.modules[ZOO]) if library == ZOO else None
        imports = f"from {module} import {name}"
        return cls(model, classes, options, imports, f"{name}({given})", source)

    @property
    def library(self) -> str:
        """What comes before the colon."""
        return self.model.partition(":")[0]

    def build(self) -> nn.Module:
        """The network, its weights fresh."""
        return build(self.model, classes=self.classes, options=self.options)
