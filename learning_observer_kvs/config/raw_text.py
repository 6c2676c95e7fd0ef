"""Values from sources that hold nothing but text: environment variables, and PMSS."""

from __future__ import annotations

from typing import Self


class RawText(str):
    """Text whose type its option decides: it may stand for a number or a boolean.

    Attributes:
        written: what the settings hold in its place, such as ``${NAME}``. It is displayed instead of the text, which
            may be a secret. ``None`` where the settings hold the text itself.
    """

    written: str | None = None

    @classmethod
    def of(cls, text: str, written: str | None = None) -> Self:
        """Return a text together with what the settings hold in its place.

        Args:
            text: the value.
            written: see the class.

        Returns:
            The text, as this class.
        """
        made = cls(text)
        made.written = written
        return made


class UnsetVariable(RawText):
    """Text that uses an environment variable which is not set. That is one problem; no check adds a second one."""
