"""What the rows of a store are of: images in views."""

import hashlib
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

import limbeck
from limbeck.data import Images, permutation
from limbeck.errors import RecipeError
from limbeck.recipe.schema import Recipe

LOOKS = 1000  # files whose bytes are part of the hash


def about_images(recipe: Recipe, images: Images) -> dict[str, Any]:
    """What images and views it is about, whoever the teacher is."""
    data = recipe.data
    varied = data.augment.augment() is not None or data.strong is not None
    return {
        "images": {
            "count": len(images),
            "digest": digest_of(images),
            "classes": list(images.classes),
            "task": recipe.task,
        },
        "views": {
            "count": views_of(recipe),
            "seed": seed_of_views(recipe) if varied else 0,
            "augment": data.augment.model_dump(mode="json", exclude_defaults=True),
            "strong": data.strong and data.strong.model_dump(mode="json", exclude_defaults=True),
        },
        "versions": {
            "limbeck": limbeck.__version__,
            "torch": torch.__version__.split("+")[0],
            "Pillow": None if images.in_memory else version("Pillow"),
        },
    }


def seed_of_views(recipe: Recipe) -> int:
    """What the variations of an image are drawn from."""
    return recipe.seed if recipe.data.views_seed is None else recipe.data.views_seed


def views_of(recipe: Recipe) -> int:
    """How many views of each image are recycled.

    Raises:
        RecipeError: a recipe that recycles none, or mixes images.
    """
    if recipe.data.augment.mix() is not None:
        raise RecipeError(["data.augment: mixed images cannot be stored; leave out the mixing"])
    if recipe.data.views is None:
        raise RecipeError(
            [
                "data.views: a store needs the number of variations of an image that are recycled; "
                "1 where images do not vary"
            ]
        )
    return recipe.data.views


def digest_of(images: Images) -> str:
    """A hash of the images: pixels in memory; of files names, sizes, and the bytes of LOOKS."""
    found = hashlib.sha256()
    if isinstance(images.pixels, Tensor):
        found.update(images.pixels.contiguous().reshape(-1).numpy().data)
        return found.hexdigest()[:16]
    files = images.pixels
    found.update(f"{files.image_size}".encode())
    for i, name in enumerate(files.names):
        found.update(f"{name} {files.path(i).stat().st_size}\n".encode())
    for i in permutation(0, 0, len(files))[:LOOKS]:
        found.update(files.path(int(i)).read_bytes())
    return found.hexdigest()[:16]
