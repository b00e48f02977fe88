"""The reference of the command line, from the commands themselves."""

from collections.abc import Iterator

import click
from costs import table

from limbeck.cli import main


def commands() -> str:
    """Every command: how it is called, what it does, its options."""
    lines: list[str] = []
    for name, command in leaves(main, "limbeck"):
        context = click.Context(command, info_name=name)
        usage = " ".join(
            piece for piece in command.collect_usage_pieces(context) if "OPT" not in piece
        )
        said = " ".join((command.help or "").split())
        lines += [f"## `{name}`", "", f"`{name} {usage}`", "", said, ""]
        rows = [option(each, context) for each in command.params if isinstance(each, click.Option)]
        lines += [*table(("option", "what it does"), rows), ""] if rows else []
    return "\n".join(lines)


def leaves(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group and of the groups in it, by their whole names."""
    for key, command in sorted(group.commands.items()):
        whole = f"{name} {key}"
        if isinstance(command, click.Group):
            yield from leaves(command, whole)
        else:
            yield whole, command


def option(found: click.Option, context: click.Context) -> tuple[str, str]:
    """How an option is written, and its help."""
    record = found.get_help_record(context)
    assert record is not None
    return f"`{record[0]}`", record[1]
