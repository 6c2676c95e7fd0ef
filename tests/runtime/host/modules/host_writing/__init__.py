"""A module of reducers, as others write them for the host."""
