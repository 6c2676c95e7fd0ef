"""``lo-kvs``: an empty value, which a shell variable that is not set leaves, is an error, and nothing is done."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from learning_observer_kvs.cli.main import COMMANDS, main

CREDS = 'kvs: {default: {type: sqlite, path: s}}\nretention: {older_than: 5y}\n'


def with_an_empty_value() -> dict[str, list[str]]:
    """A command line for each option and argument that takes a value, with an empty one; the others are as needed."""
    found = {}
    for name in COMMANDS:
        command: click.Command = importlib.import_module(f'learning_observer_kvs.cli.{name.replace("-", "_")}').command
        needed = [each for each in command.params if each.required]
        for parameter in command.params:
            if parameter.default == '' or (isinstance(parameter, click.Option) and parameter.is_flag):
                continue
            words = [name]
            for each in needed if parameter in needed else [*needed, parameter]:
                words += each.opts[-1:] if isinstance(each, click.Option) else []
                words.append('' if each is parameter else 'x')
            found[f'{name} {parameter.opts[-1]}'] = words
    return found


LINES = with_an_empty_value()


@pytest.mark.parametrize('words', LINES.values(), ids=LINES)
def test_an_empty_value_is_an_error_that_names_it_and_nothing_is_done(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(CREDS)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert 'Invalid value' in done.stderr
    assert done.stdout == ''
    assert [path.name for path in Path().iterdir()] == ['creds.yaml']


@pytest.mark.parametrize('option', ['--alias', '--not-alias'])
def test_an_id_of_spaces_is_an_error(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(CREDS)
    done = CliRunner().invoke(main, ['erase-student', 'bob', option, ' ', '--yes'])
    assert done.exit_code == 2
    assert 'at least one character' in done.stderr


@pytest.mark.parametrize('words', [['keys', ''], ['dump', '--prefix', '']])
def test_an_empty_prefix_means_every_key(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(CREDS)
    assert CliRunner().invoke(main, ['set', 'some', '1']).exit_code == 0
    assert 'some' in CliRunner().invoke(main, words).stdout


@pytest.mark.parametrize('variable', ['', 'creds.yaml'])
def test_an_empty_variable_of_the_environment_means_the_default(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LO_KVS_CONFIG', variable)
    Path('creds.yaml').write_text(CREDS)
    assert CliRunner().invoke(main, ['set', 'some', '1']).exit_code == 0
