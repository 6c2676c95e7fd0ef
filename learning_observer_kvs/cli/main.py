"""``lo-kvs``: the group of its commands, and the exit status of their errors."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from typing import Any

import click

from learning_observer_kvs._version import __version__
from learning_observer_kvs.cli.command import INTERRUPTED
from learning_observer_kvs.errors import KVSError, StoreMissing

COMMANDS = (
    'check',
    'copy',
    'dump',
    'erase-student',
    'expire',
    'export-student',
    'find-student',
    'get',
    'keys',
    'load',
    'remove',
    'remove-reducer',
    'replay',
    'serve',
    'set',
    'stats',
    'suppressed',
)

MISSING = 3
"""The exit status if a store is not there."""

TRACEBACK = 'LO_KVS_TRACEBACK'
"""The environment variable that has unexpected errors printed whole."""


class Commands(click.Group):
    """A group that imports a command when it is used, and prints errors without a traceback."""

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

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run ``lo-kvs``, as click does; what the terminal cannot encode is printed with backslash escapes.

        Args:
            args: as for click.
            extra: as for click.

        Raises:
            SystemExit: at the end, with the exit status; with 2 at once if the standard output is closed, because an
                answer would be lost.
        """
        if sys.stdout is None:
            click.echo('The standard output is closed: an answer would be lost. Nothing was done.', err=True)
            sys.exit(2)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, 'reconfigure'):
                stream.reconfigure(errors='backslashreplace')
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; its errors are printed in a line and end the process.

        Args:
            ctx: click's context.

        Returns:
            What the command returned.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # at the end of the process it would be too late to say that it failed
            return result
        except StoreMissing as error:
            click.echo(str(error), err=True)
            ctx.exit(MISSING)
        except KVSError as error:
            click.echo(str(error), err=True)
            ctx.exit(1)
        except BrokenPipeError:
            _discard_output()  # the reader of the output has closed it, as head does
            ctx.exit(1)
        except OSError as error:
            _discard_output()
            click.echo(f'{error.filename or "lo-kvs"}: {error.strerror or error}', err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo('Interrupted.', err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            [*_, at] = traceback.extract_tb(error.__traceback__)
            click.echo(
                f'{type(error).__name__}: {error} ({os.path.basename(at.filename)}:{at.lineno}). This is a mistake in '
                f'lo-kvs or a store type; with {TRACEBACK}=1 it prints where.',
                err=True,
            )
            ctx.exit(1)


def _discard_output() -> None:
    """Have nothing more written to the standard output, which fails, not even when the process ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError, OSError):
        return  # it is not a file


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100})
@click.version_option(__version__, prog_name='lo-kvs')
def main() -> None:
    """Inspect, check, change and copy the key-value stores of Learning Observer.

    Every command reads the settings that its option --config names, or an argument that ends in .yaml, .yml or .pmss;
    by default creds.yaml in the working directory. Its answer names the store with its absolute path. What only reads
    creates nothing: the exit status is 3 if a store is not there.

    \b
    Example:
      lo-kvs keys --config devdata/creds.yaml
    """
