"""Checks of a configuration: of the settings alone (static), and of what they name (live)."""
