"""The command line: results on stdout, everything else on stderr."""

import json
import logging
import os
import sys
from pathlib import Path

import click

from limbeck.cli_parts import (
    FILE,
    FOLDER,
    command,
    json_option,
    overrides_argument,
    recipe_argument,
)
from limbeck.cli_store import store
from limbeck.errors import LimbeckError

TEMPLATES = {
    "classification": "template.yaml",
    "multilabel": "template-multilabel.yaml",
    "regression": "template-regression.yaml",
}
SCHEMES = {
    name: f"template-{name}.yaml"
    for name in ("self", "multi-teacher", "mutual", "generations", "assistants")
}


class Examples(click.Group):
    """A group whose help begins with examples."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_text("Knowledge distillation: a large model teaches a small one.")
        with formatter.section("Examples"):
            formatter.write_dl(
                [
                    ("limbeck new recipe.yaml", "write a recipe to own"),
                    ("limbeck check recipe.yaml", "build everything, train nothing"),
                    ("limbeck tune recipe.yaml --write", "what is faster here, measured"),
                    ("limbeck train recipe.yaml --out runs/a", "distil"),
                    ("limbeck train recipe.yaml --out runs/a --resume", "go on"),
                    ("limbeck compare recipe.yaml --out runs/b", "is it the teacher?"),
                    ("limbeck report runs/b", "one page of HTML"),
                    ("limbeck export runs/a --out model", "safetensors and ONNX"),
                ]
            )


@click.group(
    cls=Examples,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="limbeck")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("limbeck").setLevel(logging.INFO)
    sys.path.append(os.getcwd())  # where the code that a recipe names may lie
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@main.command()
@click.argument("path", type=FILE, default="recipe.yaml")
@click.option(
    "--task", type=click.Choice(list(TEMPLATES)), default="classification", help="What is asked."
)
@click.option("--scheme", type=click.Choice(list(SCHEMES)), help="Who teaches; else a teacher.")
@command
def new(path: Path, task: str, scheme: str | None) -> None:
    """Write a commented recipe to PATH."""
    from importlib.resources import files

    if path.exists():
        raise LimbeckError(f"{path} exists; name another file")
    if not path.parent.is_dir():
        raise LimbeckError(f"{path} must be in a folder that exists")
    if scheme is not None and task != "classification":
        raise LimbeckError("a scheme is written for classification; leave out --task or --scheme")
    name = TEMPLATES[task] if scheme is None else SCHEMES[scheme]
    path.write_text((files("limbeck.recipe") / name).read_text(encoding="utf-8"))
    click.echo(path)


@main.command()
@recipe_argument
@overrides_argument
@json_option
@command
def check(recipe: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Build everything that RECIPE names, run one batch, train nothing."""
    from limbeck.check import summary
    from limbeck.recipe import check_recipe, read

    document = check_recipe(read(recipe, overrides))
    click.echo(json.dumps(document) if as_json else summary(document))
    if document["problems"]:
        sys.exit(3)


@main.command()
@recipe_argument
@overrides_argument
@click.option("--out", type=FOLDER, help="Run folder; runs/RECIPE unless given.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--overwrite", is_flag=True, help="Throw away what the folder holds.")
@json_option
@command
def train(
    recipe: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Distil: train RECIPE's student, evaluate it, leave a run folder."""
    from limbeck.evaluate import summary
    from limbeck.recipe import read, run

    folder = out or Path("runs") / recipe.stem
    document = run(read(recipe, overrides), folder, resume=resume, overwrite=overwrite)
    if document:
        click.echo(json.dumps(document) if as_json else f"{summary(document)}\n\n{folder}")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--min-retention", type=float, help="Exit 3 below this share of the teacher.")
@json_option
@command
def evaluate(run: Path, min_retention: float | None, as_json: bool) -> None:
    """Evaluate the student of a RUN folder on its test images."""
    from limbeck.evaluate import summary
    from limbeck.recipe import evaluate_run

    document = evaluate_run(run)
    click.echo(json.dumps(document) if as_json else summary(document))
    if min_retention is not None and (document["retention"] or 0.0) < min_retention:
        click.echo(f"error: retention is below {min_retention}", err=True)
        sys.exit(3)


@main.command()
@recipe_argument
@overrides_argument
@click.option(
    "--out", type=FOLDER, help="Folder of the comparison; runs/RECIPE-compare unless given."
)
@click.option("--seeds", type=click.IntRange(min=1), help="Seeds of each arm; as the recipe says.")
@click.option("--arm", "arms", multiple=True, help="Only these arms; may be given more than once.")
@json_option
@command
def compare(
    recipe: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    seeds: int | None,
    arms: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train RECIPE's student with and without its teacher, and say whether it gained."""
    from limbeck.compare import table
    from limbeck.recipe import compare_recipe, graph_of_text, read
    from limbeck.report import write_report

    folder = out or Path("runs") / f"{recipe.stem}-compare"
    document = compare_recipe(read(recipe, overrides), folder, seeds, arms, name=recipe.stem)
    page = write_report(folder, graph_of=graph_of_text)
    click.echo(json.dumps(document) if as_json else f"{table(document)}\n\nreport: {page}")


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FILE, help="The page; FOLDER/report.html unless given.")
@command
def report(folder: Path, out: Path | None) -> None:
    """Write one HTML page about a run or a comparison."""
    from limbeck.recipe import graph_of_text
    from limbeck.report import write_report

    click.echo(write_report(folder, out, graph_of=graph_of_text))


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="New folder.")
@click.option("--onnx/--no-onnx", default=True, help="Write and verify ONNX.", show_default=True)
@click.option("--student", metavar="NAME", help="Of several; the first unless given.")
@json_option
@command
def export(run: Path, out: Path, onnx: bool, student: str | None, as_json: bool) -> None:
    """Write the student of a RUN as safetensors and ONNX, ready to ship."""
    from limbeck.recipe import export_run

    document = export_run(run, out, onnx=onnx, student=student)
    click.echo(json.dumps(document) if as_json else out)


@main.command()
@recipe_argument
@overrides_argument
@click.option("--write", is_flag=True, help="Set the chosen keys in RECIPE; nothing else in it.")
@json_option
@command
def tune(recipe: Path, overrides: tuple[str, ...], write: bool, as_json: bool) -> None:
    """Time what makes RECIPE's teacher, student and data faster here, and choose."""
    from limbeck.recipe import edit, read, tune_recipe
    from limbeck.recipe.tune_rows import table

    if write and overrides:
        raise LimbeckError("--write is for the file that was measured; leave out the overrides")
    document = tune_recipe(read(recipe, overrides))
    if write and document["changes"]:
        edit(recipe, document["changes"])
        document["written"] = True
    click.echo(json.dumps(document) if as_json else table(document))


@main.command()
@click.argument("name", required=False)
@command
def methods(name: str | None) -> None:
    """List what can be matched, or explain one NAME."""
    from limbeck.methods.listing import explain, listing

    click.echo(explain(name) if name else listing())


main.add_command(store)
