"""The settings as rows: one for each store and one for each other block, parsed once and never changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from learning_observer_kvs.config.layers import Settings
from learning_observer_kvs.config.options import Option, convert
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.config.raw_text import UnsetVariable
from learning_observer_kvs.config.redaction import redacted
from learning_observer_kvs.config.source import SettingPath, dotted
from learning_observer_kvs.problems import Problem

Options = Sequence[Option]

MASKED = 'auth, authorization, oauth, token, secret, password, session, cookie'
"""What the names of values that the pages do not show contain, unless the settings list other words."""

DEBUG_OPTIONS = (
    Option('authorize', 'function', doc='the function that says who may look, as package.module:function.'),
    Option('masked', 'words', default=MASKED, doc='values under keys or fields with one of these words are not shown.'),
)
"""The options of the ``kvs_debug`` block."""

PRIVACY_OPTIONS = (
    Option('study_logs', 'path or null', doc='the folder of study logs that the privacy commands search and change.'),
    Option('audit', 'path or null', doc='the file to which a line is added about each look at, or loss of, data.'),
)
"""The options of the ``privacy`` block."""

RETENTION_OPTIONS = (
    Option('older_than', 'age', doc='states that were last written so long ago are removed by lo-kvs expire.'),
)
"""The options of the ``retention`` block."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Block:
    """A block of options as the settings write it; its options may have any shape until they are checked.

    Args:
        subject: what messages call it: ``redis_connection``, ``kvs.default``.
        options: its options by name, with raw text converted; what is written in its place if it is not a mapping.
        location: the source location of the block, as ``creds.yaml:57``.
        option_locations: the source location of each option.
    """

    subject: str
    options: Any
    location: str = 'settings'
    option_locations: Mapping[Hashable, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the row without secrets."""
        return f'<{type(self).__name__} {self.subject} at {self.location}: {redacted(self.options, self.subject)}>'

    @property
    def mapping(self) -> Mapping[Any, Any]:
        """The options; empty if the block is not a mapping."""
        return self.options if isinstance(self.options, Mapping) else {}

    def location_of(self, option: Hashable) -> str:
        """Return the source location of an option.

        Args:
            option: its name.

        Returns:
            Its location; that of the block, if the option is not written.
        """
        return self.option_locations.get(option, self.location)


@dataclass(frozen=True, kw_only=True, repr=False)
class StoreConfig(Block):
    """One store as the settings write it.

    Args:
        name: its name; ``None`` if the entry is not a ``[name, options]`` pair.
        type: the value of its option ``type``, which stays among the options; ``None`` if there is none.
        is_named: whether the entry has a name, which in YAML may be ``null``.
    """

    name: Any
    type: Any = None
    is_named: bool = True

    def describes_same_store(self, other: StoreConfig) -> bool:
        """Return whether a store that was made from one row is what the other row describes.

        Args:
            other: the other row.

        Returns:
            Whether name and options are equal; the locations may differ.
        """
        return (self.name, self.options) == (other.name, other.options)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Parsed settings.

    Args:
        settings: what they were parsed from.
        stores: a row for each store, in the order of the settings.
        redis_connection: the block of that name; ``None`` if it is not there.
        kvs_debug: the block of that name; ``None`` if it is not there.
        privacy, retention: likewise.
        rejected_types: store types of installed packages that the settings name and that cannot be used, with the
            reason as the rest of a sentence that begins "which".
        warnings: what the checks of the settings warned of.
    """

    settings: Settings
    stores: tuple[StoreConfig, ...] = ()
    redis_connection: Block | None = None
    kvs_debug: Block | None = None
    privacy: Block | None = None
    retention: Block | None = None
    rejected_types: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()

    @property
    def blocks(self) -> list[Block]:
        """All rows: the stores, then the other blocks that are there."""
        others = (self.redis_connection, self.kvs_debug, self.privacy, self.retention)
        return [*self.stores, *(block for block in others if block is not None)]

    @property
    def study_logs(self) -> str | None:
        """The absolute path of the folder of study logs; ``None`` if the settings name none."""
        return self._path('study_logs')

    @property
    def audit(self) -> str | None:
        """The absolute path of the file of audit lines; ``None`` if the settings name none."""
        return self._path('audit')

    def _path(self, option: str) -> str | None:
        path = None if self.privacy is None else self.privacy.mapping.get(option)
        return absolute(path) if path else None

    @property
    def stores_by_name(self) -> dict[str, StoreConfig]:
        """The stores whose name is text; of several of one name the last."""
        return {row.name: row for row in self.stores if isinstance(row.name, str)}


def named_types(settings: Settings) -> list[str]:
    """Return the store types that settings name.

    Args:
        settings: what was read.

    Returns:
        Each type once, known or not.
    """
    types = [_type_of(entry.options) for entry in _entries(settings)]
    words = [str(word) for word in types if isinstance(word, str) and not isinstance(word, UnsetVariable)]
    return list(dict.fromkeys(words))


def parse(
    settings: Settings,
    options_by_type: Mapping[str, Options],
    redis_options: Options,
    rejected_types: Mapping[str, str],
) -> Configuration:
    """Parse settings.

    Args:
        settings: what was read; not changed.
        options_by_type: the options of each store type.
        redis_options: the options of the block ``redis_connection``.
        rejected_types: see :class:`Configuration`.

    Returns:
        The rows. Nothing is checked yet.
    """

    def block(name: str, options: Options) -> Block | None:
        if name not in settings:
            return None
        return Block(subject=name, **_parts(settings, (name,), settings[name], options))

    return Configuration(
        settings=settings,
        stores=tuple(_store(settings, entry, options_by_type) for entry in _entries(settings)),
        redis_connection=block('redis_connection', redis_options),
        kvs_debug=block('kvs_debug', DEBUG_OPTIONS),
        privacy=block('privacy', PRIVACY_OPTIONS),
        retention=block('retention', RETENTION_OPTIONS),
        rejected_types=rejected_types,
    )


class _Entry(NamedTuple):
    name: Any
    options: Any
    path: SettingPath
    is_named: bool = True


def _entries(settings: Settings) -> Iterator[_Entry]:
    """Yield the entries of the ``kvs`` block: a mapping, or an array of ``[name, options]`` pairs."""
    block = settings.get('kvs')
    if isinstance(block, Mapping):
        for name, options in block.items():
            yield _Entry(name, options, ('kvs', name))
    elif isinstance(block, (list, tuple)):
        for index, item in enumerate(block):
            if isinstance(item, (list, tuple)) and len(item) == 2:
                yield _Entry(item[0], item[1], ('kvs', index, 1))
            else:
                yield _Entry(None, item, ('kvs', index), is_named=False)


def _store(settings: Settings, entry: _Entry, options_by_type: Mapping[str, Options]) -> StoreConfig:
    word = _type_of(entry.options)
    options = options_by_type.get(word, ()) if isinstance(word, str) else ()
    subject = dotted(('kvs', entry.name) if entry.is_named else entry.path)
    return StoreConfig(
        subject=subject,
        name=entry.name,
        type=word,
        is_named=entry.is_named,
        **_parts(settings, entry.path, entry.options, options),
    )


def _parts(settings: Settings, path: SettingPath, written: Any, options: Options) -> dict[str, Any]:
    """Return the options of a block, converted, and their locations."""
    parts: dict[str, Any] = {'options': written, 'location': settings.location(*path)}
    if isinstance(written, Mapping):
        known = {option.name: option for option in options}
        parts['options'] = {
            name: convert(known[name], value) if name in known else value for name, value in written.items()
        }
        parts['option_locations'] = {name: settings.location(*path, name) for name in written}
    return parts


def _type_of(options: Any) -> Any:
    return options.get('type') if isinstance(options, Mapping) else None
