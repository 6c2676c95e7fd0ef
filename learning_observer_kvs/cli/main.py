"""``lo-kvs``: the group of its commands, and the exit status of their errors."""

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
    """A group that imports a command when it is used, and prints the package's errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names of all commands, as click asks for them.

        Args:
            ctx: click's context.

        Returns:
            The names, sorted.
        """
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command, as click asks for it.

        Args:
            ctx: click's context.
            name: the command's name.

        Returns:
            The command; ``None`` if there is none of this name.
        """
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f'learning_observer_kvs.cli.{name.replace("-", "_")}').command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names, or suggest one that is similar.

        Args:
            ctx: click's context.
            args: the arguments, beginning with the command's name.

        Returns:
            The command's name, the command, and its arguments.
        """
        if args[0] not in COMMANDS and (close := difflib.get_close_matches(args[0], COMMANDS, 1)):
            ctx.fail(f'No such command {args[0]!r}. Did you mean {close[0]!r}?')
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; its errors are printed and end the process with status 1.

        Args:
            ctx: click's context.

        Returns:
            What the command returned.
        """
        try:
            return super().invoke(ctx)
        except KVSError as error:
            click.echo(str(error), err=True)
            ctx.exit(1)
        except BrokenPipeError:
            # The reader of the output has closed it, as head does; nothing more can be written there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)
        except OSError as error:
            click.echo(f'{error.filename or "lo-kvs"}: {error.strerror or error}', err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100})
@click.version_option(__version__, prog_name='lo-kvs')
def main() -> None:
    """Inspect, check, change and copy the key-value stores of Learning Observer.

    Every command reads the settings that its option --config names (check: its arguments); by default creds.yaml in
    the working directory.

    \b
    Example:
      lo-kvs keys --config devdata/creds.yaml
    """
