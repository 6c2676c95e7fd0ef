"""What every command is: how it finds its settings, and how it ends when it is interrupted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from click.core import ParameterSource

T = TypeVar('T')

SETTINGS = ('.yaml', '.yml', '.pmss')
"""How the names of files of settings end."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

config_option = click.option(
    '--config',
    '-c',
    multiple=True,
    type=click.Path(),
    default=['creds.yaml'],
    envvar='LO_KVS_CONFIG',
    show_default=True,
    show_envvar=True,
    help='The settings; repeatable, and the first file that has a value wins. An argument that ends in .yaml, .yml or '
    '.pmss does the same.',
)
store_option = click.option(
    '--store', '-s', 'name', default='default', show_default=True, help="The store's name in the settings."
)
json_option = click.option('--json', 'as_json', is_flag=True, help='Print JSON.')


class Command(click.Command):
    """A command to which an argument that ends as the name of a file of settings does is ``--config``.

    An empty value, which a shell variable that is not set leaves, is an error, unless it is the default: it would
    select something else than what was meant.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, as click asks for it.

        Args:
            ctx: click's context.
            args: the arguments; those behind ``--`` are what they are.

        Returns:
            What is left of them.

        Raises:
            click.BadParameter: a value is empty.
        """
        with_value = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        parsed: list[str] = []
        rest = iter(args)
        for argument in rest:
            if argument == '--':
                parsed += [argument, *rest]
            elif argument in with_value:
                parsed += [argument, *(value for value in [next(rest, None)] if value is not None)]
            elif argument.endswith(SETTINGS) and not argument.startswith('-'):
                parsed += ['--config', argument]
            else:
                parsed.append(argument)
        left = super().parse_args(ctx, parsed)
        for parameter in self.params:
            name = parameter.name or ''
            values = ctx.params.get(name)
            if (
                parameter.default != ''
                and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
                and '' in (values if isinstance(values, tuple) else (values,))
            ):
                raise click.BadParameter('It is empty. Is a shell variable not set?', ctx, parameter)
        return left


class Interrupted(click.ClickException):
    """Ctrl-C was pressed; the message says what is done, and how to go on."""

    exit_code = INTERRUPTED

    def show(self, file: Any = None) -> None:
        """Print the message.

        Args:
            file: where to; by default to standard error.
        """
        click.echo(f'Interrupted. {self.format_message()}', file=file, err=file is None)


def ask(question: Callable[[], T], interrupted: str) -> T:
    """Ask a person. Ctrl-C ends the command at once; the event loop would have it wait for the answer.

    Args:
        question: asks it, with click.
        interrupted: what is done after Ctrl-C, as a sentence.

    Returns:
        The answer.

    Raises:
        Interrupted: Ctrl-C was pressed.
        click.Abort: the standard input ended.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return question()
    except click.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise Interrupted(interrupted) from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interruptible(message: Callable[[], str]) -> Iterator[None]:
    """Say in case of Ctrl-C what is done, and how to go on.

    Args:
        message: returns it, as whole sentences.

    Raises:
        Interrupted: Ctrl-C was pressed in the block.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(message()) from None
