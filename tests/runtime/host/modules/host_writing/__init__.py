"""A module of reducers, as others write one for the host."""
