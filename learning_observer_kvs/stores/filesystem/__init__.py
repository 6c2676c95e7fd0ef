"""``type: filesystem``."""
