"""A stored teacher, as a recipe says it."""

from limbeck.data import Images
from limbeck.errors import LimbeckError
from limbeck.recipe.about import about_images
from limbeck.recipe.kinds import StoredSource
from limbeck.recipe.methods import Method
from limbeck.recipe.schema import Recipe
from limbeck.store import Store, Stored, place
from limbeck.store.sparse import Softened
from limbeck.store.store import same_store


def stored_source(name: str, block: StoredSource, recipe: Recipe, images: Images) -> Stored:
    """What a store says, which must be of this recipe's images and views.

    Raises:
        LimbeckError: a store of other images or views, or of outputs at another temperature.
    """
    store = Store(place(block.path))
    ours = about_images(recipe, images)
    same_store(block.path, {key: store.about.get(key) for key in ours}, ours)
    check_temperatures(name, store, recipe)
    return Stored(store)


def check_temperatures(name: str, store: Store, recipe: Recipe) -> None:
    """Refuses outputs that are kept in part at one temperature and read at another."""
    owners = store.signals()
    for entry in recipe.objective:
        if isinstance(entry, Method) or entry.is_truth or entry.source != name:
            continue
        owner = owners.get(entry.theirs or entry.at or "output")
        kept = store.kept[owner].codec if owner else None
        asked = entry.keywords().get("temperature", 1.0)
        if isinstance(kept, Softened) and asked != kept.temperature:
            raise LimbeckError(
                f"{store.place} keeps {owner} at temperature {kept.temperature:g}, but "
                f"{entry.loss} reads it at {asked}; write it with temperature={asked}, or read it "
                f"at {kept.temperature:g}"
            )
