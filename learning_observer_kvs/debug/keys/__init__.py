"""The pages of a store's keys: what they can be filtered by, how many there are, and the list."""
