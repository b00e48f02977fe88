"""A teacher of another framework, as a recipe says it."""

import torch

from limbeck.data import Images, permutation
from limbeck.errors import LimbeckError
from limbeck.foreign import Foreign, Spec, open_teacher, probe
from limbeck.recipe.kinds import ForeignSource
from limbeck.recipe.schema import Recipe
from limbeck.sources import Recorded, Source

ITSELF = ("sklearn", "xgboost")  # say what they answer, not how they take images
PROBED = 256  # labelled images that a teacher is tried on


def foreign_source(block: ForeignSource, recipe: Recipe, images: Images) -> Source:
    """The teacher, tried on training images, its columns in the order of the data's classes.

    Raises:
        LimbeckError: what `open_teacher` and `probe` raise.
    """
    made = opened(block, images)
    pool = images.labelled if len(images.labelled) else torch.arange(len(images))
    chosen = pool[torch.from_numpy(permutation(0, 0, len(pool)).copy())[:PROBED]]
    try:
        probe(made, images.fetch(chosen), images.labels[chosen], classes=images.classes)
    except BaseException:
        made.close()
        raise
    if block.record and recipe.data.views is not None:
        return Recorded(made, samples=len(images), views=recipe.data.views)
    return made


def opened(block: ForeignSource, images: Images) -> Foreign:
    """The teacher with the contract that the block says, or that its file says itself."""
    spec, kind = None, block.model.partition(":")[0]
    if kind not in ITSELF and (block.output is None) != (block.layout is None):
        raise LimbeckError(f"{block.model} needs output and layout together, or neither")
    if block.output is not None and block.layout is not None:
        spec = Spec(block.output, tuple(block.classes or images.classes), block.layout, block.dtype)
    by_itself = spec is None and kind in ITSELF
    return open_teacher(
        block.model,
        spec,
        inputs=block.preprocess(),
        order=images.classes if block.classes or kind == "sklearn" else None,
        answer=block.answer,
        layout=block.layout if by_itself else None,
        classes=block.classes or images.classes if kind == "xgboost" else None,
        python=block.python,
        version=block.version,
        unsafe_pickle=block.unsafe_pickle,
    )
