"""Judging the settings, before and at start-up."""
