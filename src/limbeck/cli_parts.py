"""What the commands share."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from limbeck.errors import LimbeckError

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def command(fn: Callable[..., None]) -> Callable[..., None]:
    """One-line errors with their exit code; tracebacks with --debug alone."""

    @wraps(fn)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            fn(*args, **options)
        except LimbeckError as error:
            if click.get_current_context().find_root().params["debug"]:
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("error: interrupted", err=True)
            sys.exit(130)

    return guarded


recipe_argument = click.argument("recipe", type=FILE)
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
