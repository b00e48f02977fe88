"""Recipes: a distillation as a file, checked whole before anything runs."""

from limbeck.recipe.arms import arms_of as arms_of
from limbeck.recipe.build import Built as Built
from limbeck.recipe.build import assemble as assemble
from limbeck.recipe.checking import check_recipe as check_recipe
from limbeck.recipe.editing import edit as edit
from limbeck.recipe.finished import evaluate_run as evaluate_run
from limbeck.recipe.finished import export_run as export_run
from limbeck.recipe.finished import load as load
from limbeck.recipe.graph import graph_of as graph_of
from limbeck.recipe.graph import graph_of_text as graph_of_text
from limbeck.recipe.pipeline import compare_recipe as compare_recipe
from limbeck.recipe.pipeline import run as run
from limbeck.recipe.schema import Recipe as Recipe
from limbeck.recipe.storing import plan_store as plan_store
from limbeck.recipe.storing import verify_store as verify_store
from limbeck.recipe.storing import write_store as write_store
from limbeck.recipe.text import dump as dump
from limbeck.recipe.text import read as read
from limbeck.recipe.text import validate as validate
from limbeck.recipe.tune import tune_recipe as tune_recipe
