"""``type: redis`` and ``type: redis_ephemeral``."""
