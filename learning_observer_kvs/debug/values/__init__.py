"""The pages of one value: its parts, what is found in it, and what of it is masked."""
