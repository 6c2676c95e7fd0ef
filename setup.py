"""Installs the package; everything it is made of is named in setup.cfg."""

from setuptools import setup

setup()
