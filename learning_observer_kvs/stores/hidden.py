"""Records of this package about a store, which are not keys of it."""

from __future__ import annotations

from learning_observer_kvs.stores.backend import HIDDEN, Backend


class HiddenRecords(Backend):
    """A backend with hidden records."""

    async def read_hidden(self, name: str) -> bytes | None:
        """Return a record of this package about the store, which is not one of its keys.

        ``clear`` spares it, and no listing has it. A backend that has no place for it keeps it as a key
        that begins with ``HIDDEN``, which listings show.

        Args:
            name: the name of the record, of lower-case letters.

        Returns:
            The record; ``None`` if there is none.

        Raises:
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        return await self._retried(lambda: self._read_hidden(name))

    async def commit_hidden(self, name: str, text: bytes | None, expected: bytes | None) -> bool:
        """Write a record of :meth:`read_hidden`, if it is as expected.

        Args:
            name: the name of the record.
            text: the record, JSON; ``None`` removes it.
            expected: what the record must be; ``None``: that there is none.

        Returns:
            Whether it was, and was written.

        Raises:
            StoreUnavailable, Overloaded, WriteUnclear: as for :meth:`commit_bytes`.
        """
        return await self._retried(lambda: self._commit_hidden(name, text, expected), may_be_cut=False)

    async def scrub(self) -> None:
        """Overwrite what removed values have left in files of the backend, as far as it can.

        Raises:
            StoreUnavailable: it could not be done, and what is left there can be read.
        """
        return None

    # What a backend implements where it has a place for them

    async def _read_hidden(self, name: str) -> bytes | None:
        """:meth:`read_hidden`, tried once."""
        [text] = await self.read_bytes([HIDDEN + name])
        return text

    async def _commit_hidden(self, name: str, text: bytes | None, expected: bytes | None) -> bool:
        """:meth:`commit_hidden`, tried once."""
        return await self.commit_bytes({HIDDEN + name: text}, {HIDDEN + name: expected})
