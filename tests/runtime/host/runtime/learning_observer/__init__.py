"""A host for the tests: starts in the order of a Learning Observer server, and has its names and registries."""
