"""Computing in a process of its own, so that the event loop does not wait for Python's lock meanwhile."""
