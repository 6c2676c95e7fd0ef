"""Events in, committed pairs of states out."""
