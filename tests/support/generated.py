"""Texts that Hypothesis generates."""

from __future__ import annotations

from hypothesis import strategies as st

CHARACTERS = st.characters(exclude_categories=['Cs'])
"""What UTF-8 can hold. By default texts are made of the same ones; yet to find those by a codec, in a new checkout,
Hypothesis encodes each of a million characters."""

TEXT = st.text(CHARACTERS)
