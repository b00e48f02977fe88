"""A stored teacher, as a recipe says it."""

import numpy as np

from limbeck.data import Images
from limbeck.errors import LimbeckError
from limbeck.recipe.about import about_images, views_of
from limbeck.recipe.kinds import StoredSource
from limbeck.recipe.methods import Method
from limbeck.recipe.schema import Recipe
from limbeck.recipe.terms import Term
from limbeck.store import Store, Stored, by_number, place
from limbeck.store.sparse import Softened
from limbeck.store.store import same_store


def stored_source(name: str, block: StoredSource, recipe: Recipe, images: Images) -> Stored:
    """What a store says, which must be of this recipe's images and views.

    Raises:
        LimbeckError: a store of other images or views, one that was not written to its end, or
            one whose outputs are read in another way than they were kept for.
    """
    store = Store(place(block.path))
    ours = about_images(recipe, images)
    same_store(block.path, {key: store.about.get(key) for key in ours}, ours)
    check_whole(store, recipe, images)
    check_reading(name, store, recipe)
    return Stored(store)


def check_whole(store: Store, recipe: Recipe, images: Images) -> None:
    """Refuses a store that was not written to its end."""
    ids = np.arange(len(images)) if recipe.data.unlabelled else images.labelled.numpy()
    views = range(views_of(recipe))
    keys = by_number(ids)
    missing = sum(int((store.index.find(keys, np.full(len(ids), v)) < 0).sum()) for v in views)
    if missing:
        raise LimbeckError(
            f"{store.place} lacks {missing} of {len(ids) * len(views)} rows; "
            "limbeck store write goes on where it stopped"
        )


def check_reading(name: str, store: Store, recipe: Recipe) -> None:
    """Refuses terms that read what is kept in part in another way than it was kept for."""
    owners = store.signals()
    shared = recipe.dense.of if recipe.dense else []
    for entry in recipe.objective:
        if isinstance(entry, Method) or entry.is_truth:
            continue
        if entry.source != name and not (entry.source == "teacher" and name in shared):
            continue
        owner = owners.get(entry.theirs or entry.at or "output")
        kept = store.kept[owner].codec if owner else None
        if isinstance(kept, Softened):
            check_term(f"{store.place}", kept, entry)


def check_term(where: str, kept: Softened, entry: Term) -> None:
    asked = entry.keywords().get("temperature", 1.0)
    if asked != kept.temperature:
        raise LimbeckError(
            f"{where} keeps outputs at temperature {kept.temperature:g}, but {entry.loss} reads "
            f"them at {asked}; write a store at temperature={asked}, or read this at "
            f"{kept.temperature:g}"
        )
    if ".log_weight" in kept.gives and entry.keywords().get("tail") != "drop":
        raise LimbeckError(
            f"{where} keeps drawn classes, which stand for all; set tail: drop for {entry.loss}"
        )
