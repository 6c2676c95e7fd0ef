"""The cases: each takes the environment and gives the tables it measured."""
