"""`limbeck store`: teacher signals on disk."""

import json
import sys
from pathlib import Path
from typing import Any, Literal

import click

from limbeck.cli_parts import FILE, command, json_option, overrides_argument, recipe_argument
from limbeck.errors import LimbeckError

where_argument = click.argument("where")
keep_option = click.option(
    "--keep",
    "kept",
    multiple=True,
    metavar="SIGNAL=CODEC[,SETTING=VALUE]...",
    help="What is stored and how; output=logits unless given, output=float32 for numbers.",
)
teacher_option = click.option("--teacher", default="teacher", help="Which, of several.")


@click.group()
def store() -> None:
    """Write and look after teacher signals on disk (WHERE is a folder or a URL).

    \b
    limbeck store plan recipe.yaml                     bytes, time, when it pays
    limbeck store write recipe.yaml stores/teacher     torchrun -m limbeck store ... shares it
    limbeck train recipe.yaml teacher=store:stores/teacher
    """


@store.command()
@recipe_argument
@where_argument
@overrides_argument
@keep_option
@teacher_option
@json_option
@command
def write(
    recipe: Path,
    where: str,
    overrides: tuple[str, ...],
    kept: tuple[str, ...],
    teacher: str,
    as_json: bool,
) -> None:
    """Ask RECIPE's teacher about every training image in every view, and keep the answers."""
    from limbeck.recipe import read, write_store
    from limbeck.store import place, summary

    whole = read(recipe, overrides)
    found = write_store(whole, place(where), codecs(kept, whole.task), teacher)
    if found is not None:
        tell(summary(found).document(), as_json)


@store.command()
@click.argument("texts", type=FILE)
@where_argument
@click.option("--url", required=True, help="Of an OpenAI-compatible server, without /v1.")
@click.option("--vocabulary", type=click.IntRange(min=2), required=True, help="Tokens there are.")
@click.option("--top", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--model", help="Name at the server; its only one unless given.")
@click.option("--key", envvar="LIMBECK_API_KEY", help="Or in LIMBECK_API_KEY.")
@click.option("--tokenizer", help="A word for the tokenizer, kept and compared.")
@click.option("--values", type=click.Choice(["float16", "levels"]), default="float16")
@click.option("--concurrency", type=click.IntRange(min=1), default=8, show_default=True)
@json_option
@command
def texts(
    texts: Path,
    where: str,
    url: str,
    vocabulary: int,
    top: int,
    model: str | None,
    key: str | None,
    tokenizer: str | None,
    values: Literal["float16", "levels"],
    concurrency: int,
    as_json: bool,
) -> None:
    """Ask a language model behind a server about TEXTS, a line {"input_ids": [...]} each.

    Levels take less than half floats, and lose a little more.
    """
    from limbeck.foreign.http import Server, label, read_texts
    from limbeck.store import Store, place, summary

    to, server = place(where), Server(url, vocabulary, model, key, concurrency=concurrency)
    label(server, read_texts(texts), to, k=top, values=values, tokenizer=tokenizer)
    tell(summary(Store(to)).document(), as_json)


@store.command()
@where_argument
@json_option
@command
def info(where: str, as_json: bool) -> None:
    """Say what WHERE holds: signals, codecs, bytes, errors, what it is about."""
    from limbeck.store import Store, place, summary

    tell(summary(Store(place(where))).document(), as_json)


@store.command()
@recipe_argument
@where_argument
@overrides_argument
@click.option("--samples", type=click.IntRange(min=1), default=256, show_default=True)
@teacher_option
@json_option
@command
def verify(
    recipe: Path, where: str, overrides: tuple[str, ...], samples: int, teacher: str, as_json: bool
) -> None:
    """Read every byte of WHERE, and ask RECIPE's teacher anew about some of its rows."""
    from limbeck.recipe import read, verify_store
    from limbeck.store import place

    found, same = verify_store(read(recipe, overrides), place(where), samples, teacher)
    tell(found, as_json)
    if not same:
        click.echo(f"error: {where} is not what the teacher says now", err=True)
        sys.exit(3)


@store.command()
@recipe_argument
@overrides_argument
@keep_option
@teacher_option
@json_option
@command
def plan(
    recipe: Path, overrides: tuple[str, ...], kept: tuple[str, ...], teacher: str, as_json: bool
) -> None:
    """Say what a store of RECIPE's teacher would take, and after how many trainings it pays."""
    from limbeck.recipe import plan_store, read

    whole = read(recipe, overrides)
    tell(plan_store(whole, codecs(kept, whole.task), teacher), as_json)


@store.command()
@click.argument("places", nargs=-1, required=True)
@click.option("--into", help="A new place, or one of PLACES; the first unless given.")
@json_option
@command
def merge(places: tuple[str, ...], into: str | None, as_json: bool) -> None:
    """Make one store of several, each row once, in full shards."""
    from limbeck.store import merge as merged
    from limbeck.store import place, summary

    found = merged([place(each) for each in places], place(into or places[0]))
    tell(summary(found).document(), as_json)


@store.command()
@where_argument
@click.option("--view", "views", type=int, multiple=True, help="Views to keep; all unless given.")
@json_option
@command
def prune(where: str, views: tuple[int, ...], as_json: bool) -> None:
    """Drop rows that are there twice, views that are not wanted, and what killed writers left."""
    from limbeck.store import place, summary
    from limbeck.store import prune as pruned

    tell(summary(pruned(place(where), views)).document(), as_json)


def codecs(kept: tuple[str, ...], task: str) -> dict[str, Any]:
    """`("output=topk,k=50",)` as codecs by signal; numbers are kept whole unless that is given."""
    from limbeck.store import codec

    found: dict[str, Any] = {}
    for each in kept or ("output=float32" if task == "regression" else "output=logits",):
        signal, equals, text = each.partition("=")
        name, *settings = text.split(",")
        pairs = [setting.partition("=") for setting in settings]
        if not (signal and equals and name) or not all(value for _, _, value in pairs):
            raise LimbeckError(
                f"--keep must be SIGNAL=CODEC or SIGNAL=CODEC,SETTING=VALUE, got {each!r}"
            )
        if signal in found:
            raise LimbeckError(f"--keep names {signal!r} twice; leave one out")
        found[signal] = codec(name, **{key: number(value) for key, _, value in pairs})
    return found


def number(text: str) -> int | float | str:
    """The number that a text is, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tell(document: dict[str, Any], as_json: bool) -> None:
    """One JSON document, or a line for each fact."""
    if as_json:
        click.echo(json.dumps(document))
        return
    for key, value in document.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for name, inner in value.items():
                click.echo(f"  {name}: {short(inner)}")
        else:
            click.echo(f"{key}: {short(value)}")


def short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {short(inner)}" for key, inner in value.items())
    counted = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if counted else str(value)
