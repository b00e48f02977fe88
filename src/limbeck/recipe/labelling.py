"""What a recipe's teacher would say of every training image in every view."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import limbeck
from limbeck.data import ImageBatch, Images
from limbeck.data.views import in_view
from limbeck.errors import LimbeckError, RecipeError
from limbeck.recipe.build import open_splits, teacher_source
from limbeck.recipe.schema import Recipe
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

BATCH = 64


@dataclass(frozen=True)
class Labelling:
    """A teacher, the images that it is asked about, and what its answers are about."""

    recipe: Recipe
    images: Images
    source: Source
    about: dict[str, Any]

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
            seed=self.recipe.seed,
            augment=data.augment.augment(),
            strong=None if data.strong is None else data.strong.augment(),
            workers=data.workers,
        )
        with torch.no_grad():
            for batch in shown:
                yield batch, self.source(Batch(batch.images), Signals(), wants)


def labelling(recipe: Recipe, name: str = "teacher") -> Labelling:
    """What labels a recipe's training images by one of its networks.

    Raises:
        LimbeckError: no such network, one that is to be trained first, or what cannot be built.
    """
    blocks = recipe.networks()
    if name not in blocks:
        raise LimbeckError(f"the networks that teach in this recipe are {[*blocks]}, got {name!r}")
    block = blocks[name].model_copy(update={"record": False})
    if block.fit is not None:
        raise LimbeckError(
            f"{name} is to be fitted first; train the recipe once, then name what that leaves in "
            "teacher/student.safetensors as its checkpoint instead of fit"
        )
    images = open_splits(recipe.data, recipe.seed, recipe.asked).train
    source = teacher_source(block, recipe, images, name)
    told = {"teacher": about_teacher(block.model_dump(mode="json"), source)}
    return Labelling(recipe, images, source, told | about_images(recipe, images))


def about_teacher(block: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Which teacher it is: its model, a hash of its weights, how it sees an image."""
    weights = hashlib.sha256()
    for module in source.modules():
        for key, value in sorted(module.state_dict().items()):
            weights.update(key.encode())
            weights.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    told = ("model", "precision", "mean", "std", "image_size", "class_map")
    return {"weights": weights.hexdigest()[:16], **{key: block[key] for key in told}}


def about_images(recipe: Recipe, images: Images) -> dict[str, Any]:
    """What images and views it is about, whoever the teacher is."""
    data = recipe.data
    varied = data.augment.augment() is not None or data.strong is not None
    return {
        "images": {"count": len(images), "digest": digest_of(images)},
        "views": {
            "count": views_of(recipe),
            "seed": recipe.seed if varied else 0,
            "augment": data.augment.model_dump(mode="json", exclude_defaults=True),
            "strong": data.strong and data.strong.model_dump(mode="json", exclude_defaults=True),
        },
        "versions": {"limbeck": limbeck.__version__, "torch": torch.__version__.split("+")[0]},
    }


def views_of(recipe: Recipe) -> int:
    """How many views of each image are recycled.

    Raises:
        RecipeError: a recipe that recycles none.
    """
    if recipe.data.views is None:
        raise RecipeError(
            [
                "data.views: a store needs the number of variations of an image that are recycled; "
                "1 where images do not vary"
            ]
        )
    return recipe.data.views


def digest_of(images: Images) -> str:
    """A hash of the images: of pixels in memory, of names and sizes of files."""
    found = hashlib.sha256()
    if isinstance(images.pixels, Tensor):
        found.update(images.pixels.contiguous().reshape(-1).numpy().data)
    else:
        for i, name in enumerate(images.pixels.names):
            found.update(f"{name} {images.pixels.path(i).stat().st_size}\n".encode())
        found.update(f"{images.pixels.image_size}".encode())
    return found.hexdigest()[:16]
