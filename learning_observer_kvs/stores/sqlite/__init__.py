"""``type: sqlite``."""
