"""The command ``lo-kvs``."""
