"""Study logs through reducers."""
