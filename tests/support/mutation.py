"""A plugin of pytest for runs under mutmut, whose wrappers take three frames for each call of the package."""

import sys

sys.setrecursionlimit(4 * sys.getrecursionlimit())
