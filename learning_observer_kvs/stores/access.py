"""Who may open the files of a store: the option ``mode``, and the check that no others can."""

from __future__ import annotations

import os

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.private_files import GROUP, Access, others_that_can_read
from learning_observer_kvs.problems import Problem

MODE = Option(
    'mode',
    'choice',
    default='private',
    choices=('private', 'group'),
    doc='who may open new files and folders: their owner, or also a group that shares them.',
)
"""The option of the stores that keep files."""


def check_access(access: Access, *paths: str) -> list[Problem]:
    """Find files or folders of a store that others can read.

    Args:
        access: for whom they are meant.
        paths: the files or folders, absolute; they need not be there.

    Returns:
        ``KVS.W020``, for the first of them that others can read.
    """
    for path in paths:
        try:
            readers = others_that_can_read(path, access)
        except OSError:
            continue  # a folder above it cannot be looked at, and so not be passed by others than its owner
        if readers is not None:
            changed = path if os.path.isdir(path) else f'{paths[0]}*'
            share = 'o=' if access is GROUP else 'go='
            hint = f'Run chmod {share} {changed}'
            if readers.startswith('the group'):
                hint += ', or add mode: group if that group shares the data'
            return [Problem('KVS.W020', '', 'path', f'keeps data that {readers} can read: {path}', f'{hint}.')]
    return []
