"""Reducers and the keys of their state."""
