"""The settings of the program: ``creds.yaml`` or a mapping, each value with its source location.

settings.load_settings('creds.yaml')       # or a mapping
settings.settings['kvs']['default']['type']
"""

from __future__ import annotations

from learning_observer_kvs.config.layers import Settings, Source, read_settings, run_mode

__all__ = ['Settings', 'Source', 'load_settings', 'read_settings', 'run_mode', 'settings']

settings = Settings()
"""The program's settings; :func:`load_settings` fills them in place."""


def load_settings(source: Source) -> Settings:
    """Fill the program's settings.

    Args:
        source: the path of a YAML file, or the settings as a mapping; a ``.pmss`` file or a settings object of PMSS; or
            several of these, where the first that has a value wins: ``['local.pmss', 'creds.yaml']``. In the blocks of
            this package ``${NAME}`` stands for an environment variable, and ``$${`` for ``${`` itself.

    Returns:
        The same object as :data:`settings`.

    Raises:
        StartupCheck: a file cannot be read; the settings are as they were.
    """
    settings.replace_with(read_settings(source))
    return settings
