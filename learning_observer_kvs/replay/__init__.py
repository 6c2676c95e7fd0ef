"""Feeding study logs through reducers."""
