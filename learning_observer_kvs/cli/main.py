"""``lo-kvs``: its commands, and how their errors end it. Nothing else of the package ends the process here."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

import click

from learning_observer_kvs._version import __version__
from learning_observer_kvs.errors import KVSError

COMMANDS = ('check', 'copy', 'dump', 'erase-student', 'get', 'keys', 'load', 'remove', 'replay', 'serve', 'set')


class Commands(click.Group):
    """Loads a command when it is asked for, and says errors in words."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f'learning_observer_kvs.cli.{name.replace("-", "_")}').command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and (close := difflib.get_close_matches(args[0], COMMANDS, 1)):
            ctx.fail(f'No such command {args[0]!r}. Did you mean {close[0]!r}?')
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KVSError as error:
            click.echo(str(error), err=True)
            ctx.exit(1)
        except BrokenPipeError:
            # Whoever read our output has enough; nothing more can be said there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)
        except OSError as error:
            click.echo(f'{error.filename or "lo-kvs"}: {error.strerror or error}', err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100})
@click.version_option(__version__, prog_name='lo-kvs')
def main() -> None:
    """Look into the key-value store of Learning Observer, check its configuration, and feed it.

    Every command reads the settings that its option --config names (check: its arguments), creds.yaml in the working
    directory by default.

    \b
    Example:
      lo-kvs keys --config devdata/creds.yaml
    """
