"""What recorded teachers have said, kept for the other runs of a seed."""

import hashlib
from pathlib import Path

import torch

from limbeck.foreign import Foreign
from limbeck.recipe.build import Built
from limbeck.sources import Recorded


def recalled(built: Built, home: Path | None) -> None:
    """Fills recorded teachers from an earlier record, if there is one."""
    for name, source in recorded(built).items():
        if home is not None and record_in(home, name).exists():
            source.load(record_in(home, name), fingerprint(built, name))


def remember(built: Built, home: Path | None) -> None:
    """Keeps what recorded teachers said."""
    for name, source in recorded(built).items():
        if home is not None:
            home.mkdir(parents=True, exist_ok=True)
            source.save(record_in(home, name), fingerprint(built, name))


def recorded(built: Built) -> dict[str, Recorded]:
    sources = built.distiller.sources.items()
    return {name: source for name, source in sources if isinstance(source, Recorded)}


def record_in(home: Path, name: str) -> Path:
    return home / ("record.safetensors" if name == "teacher" else f"record-{name}.safetensors")


def fingerprint(built: Built, name: str) -> str:
    """What a record depends on: the teacher's weights and block, the images, their views."""
    recipe, data = built.recipe, built.recipe.data
    shown = (data.augment, data.strong, data.views, data.views_seed)
    images = (data.train, data.valid, data.root, data.image_size, *shown)
    source = recorded(built)[name].source
    about = source.about() if isinstance(source, Foreign) else None
    block = recipe.teachers()[name]
    digest = hashlib.sha256(repr((recipe.seed, images, block, about)).encode())
    for module in source.modules():
        for value in module.state_dict().values():
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
