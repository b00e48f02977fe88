"""Who teaches whom, drawn from the recipe."""

from collections.abc import Callable

from markupsafe import Markup

from limbeck.errors import LimbeckError
from limbeck.graph import Graph, drawing
from limbeck.report.page import Figure, Section

GraphOf = Callable[[str], Graph]
TITLE = "Who teaches whom"
CAPTION = (
    "Dashed lines teach. Boxes are networks, round ones what somebody says; who learns from what "
    "it says itself stands on both sides."
)


def who_teaches(recipe: str | None, graph_of: GraphOf) -> Section:
    """The graph of a recipe, if there is one that can be read."""
    if recipe is None:
        return Section(TITLE, needs="needs recipe.yaml")
    try:
        picture = Markup(drawing(graph_of(recipe)))
    except LimbeckError as error:
        return Section(TITLE, needs=f"recipe.yaml is not one to draw: {first(error)}")
    return Section(TITLE, figures=[Figure("The recipe", picture, CAPTION)], wide=True)


def first(error: LimbeckError) -> str:
    return str(error).partition("\n")[0]
