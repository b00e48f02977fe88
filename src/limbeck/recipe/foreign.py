"""A teacher of another framework, as a recipe says it."""

import torch

from limbeck.data import Images, permutation
from limbeck.foreign import Foreign, Spec, open_teacher, probe
from limbeck.recipe.kinds import ForeignSource
from limbeck.recipe.schema import Recipe
from limbeck.sources import Recorded, Source

PROBED = 256  # labelled images that a teacher is tried on


def foreign_source(block: ForeignSource, recipe: Recipe, images: Images) -> Source:
    """The teacher, tried on training images, its columns in the order of the data's classes.

    Raises:
        LimbeckError: what `open_teacher` and `probe` raise.
    """
    made = opened(block, images)
    chosen = torch.from_numpy(permutation(0, 0, len(images)).copy())[:PROBED]
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
    spec = None
    if block.output is not None and block.layout is not None:
        spec = Spec(block.output, tuple(block.classes or images.classes), block.layout, block.dtype)
    kind = block.model.partition(":")[0]
    by_itself = spec is None and kind in ("sklearn", "xgboost")
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
