"""What a recipe's teacher would say of every training image in every view."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from limbeck.data import ImageBatch, Images
from limbeck.data.views import in_view
from limbeck.errors import LimbeckError, need
from limbeck.foreign import Foreign
from limbeck.recipe.about import about_images, seed_of_views
from limbeck.recipe.build import device_of, open_splits, teacher_source
from limbeck.recipe.foreign import foreign_source
from limbeck.recipe.kinds import ForeignSource
from limbeck.recipe.networks import Teacher
from limbeck.recipe.schema import Recipe
from limbeck.signals import Batch, Signals
from limbeck.sources import Frozen, Source
from limbeck.train.ranks import Ranks

BATCH = 64
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Labelling:
    """A teacher, the images that it is asked about, and what its answers are about."""

    recipe: Recipe
    images: Images
    source: Source
    about: dict[str, Any]
    device: torch.device = CPU

    def answers(
        self, view: int, ids: Tensor, wants: list[str]
    ) -> Iterator[tuple[ImageBatch, Mapping[str, Tensor]]]:
        """Batches of the images `ids` in a view, each with what the teacher says of them."""
        data = self.recipe.data
        shown = in_view(
            self.images,
            ids,
            view,
            BATCH,
            seed=seed_of_views(self.recipe),
            augment=data.augment.augment(),
            strong=None if data.strong is None else data.strong.augment(),
            workers=data.workers,
        )
        for batch in shown:
            yield batch, self.answer(batch.images, wants)

    def answer(self, images: Tensor, wants: list[str]) -> Mapping[str, Tensor]:
        """What the teacher says of some images, always asked in batches of one size."""
        count = len(images)
        filled = torch.cat((images, images[-1:].expand(BATCH - count, *images.shape[1:])))
        with torch.no_grad():
            said = self.source(Batch(filled.to(self.device)), Signals(), wants)
        return {want: value[:count].cpu() for want, value in said.items()}

    def close(self) -> None:
        """Ends the process of a teacher that has one."""
        if isinstance(self.source, Foreign):
            self.source.close()


def labelling(recipe: Recipe, name: str = "teacher", ranks: Ranks | None = None) -> Labelling:
    """What labels a recipe's training images by one of its networks, on the recipe's device.

    Raises:
        LimbeckError: no such network, one that is to be trained first, or what cannot be built.
    """
    blocks = {
        key: block
        for key, block in recipe.teachers().items()
        if isinstance(block, Teacher | ForeignSource)
    }
    if name not in blocks:
        raise LimbeckError(f"the networks that teach in this recipe are {[*blocks]}, got {name!r}")
    block = blocks[name].model_copy(update={"record": False})
    if isinstance(block, Teacher) and block.fit is not None:
        raise LimbeckError(
            f"{name} is to be fitted first; train the recipe once, then name what that leaves in "
            "teacher/student.safetensors as its checkpoint instead of fit"
        )
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    images = open_splits(recipe.data, recipe.seed, recipe.asked).train
    source, told = taught(block, recipe, images, name)
    device = device_of(recipe.train, ranks or Ranks())
    source.to(device)
    told = {"teacher": told} | about_images(recipe, images)
    return Labelling(recipe, images, source, told, device)


def taught(
    block: Teacher | ForeignSource, recipe: Recipe, images: Images, name: str
) -> tuple[Source, dict[str, Any]]:
    """The teacher of a block, and what is to be known of it."""
    if isinstance(block, ForeignSource):
        source = foreign_source(block, recipe, images)
        assert isinstance(source, Foreign)  # since it is not recorded
        return source, source.about()
    source = teacher_source(block, recipe, images, name)
    return source, about_teacher(block.model_dump(mode="json"), source)


def about_teacher(block: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Which teacher it is: its model, a hash of its weights, how it sees an image, what runs it."""
    weights = hashlib.sha256()
    for module in source.modules():
        for key, value in sorted(module.state_dict().items()):
            weights.update(key.encode())
            weights.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    told = ("model", "options", "precision", "channels_last", "classes", "class_map")
    faster = {"optimize": ran(block["optimize"])} if block["optimize"] else {}
    sees = repr(source.reader.inputs) if isinstance(source, Frozen) else None
    return {
        "weights": weights.hexdigest()[:16],
        "sees": sees,
        "library": library(block["model"]),
        **{key: block[key] for key in told},
        **faster,
    }


def library(model: str) -> str | None:
    """The version of the library that a model is of, if it is of one.

    >>> library("limbeck.zoo:mlp") is None
    True
    """
    name = model.partition(":")[0]
    return f"{name} {version(name)}" if name in ("torchvision", "timm") else None


def ran(optimize: Mapping[str, Any]) -> dict[str, Any]:
    """What of a teacher's optimisation its answers depend on, versions of what compiles included.

    >>> ran({"fold_bn": True, "int8": False, "engine": "torch", "loses": 0.1})
    {'fold_bn': True, 'int8': False, 'engine': 'torch'}
    """
    told = {key: optimize[key] for key in ("fold_bn", "int8", "engine")}
    match optimize["engine"]:
        case "compile":
            return told | {"torch": torch.__version__}
        case "openvino":
            return told | {"openvino": need("openvino", "openvino").__version__}
    return told
