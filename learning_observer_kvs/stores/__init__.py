"""The stores: one promise (``base``), a file for each place that can keep it."""
