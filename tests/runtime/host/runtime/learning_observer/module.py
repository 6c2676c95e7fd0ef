"""The host's own module."""

NAME = 'The host itself'
