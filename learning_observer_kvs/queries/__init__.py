"""What dashboards ask of a store: the states of a class, found and read by reducer, student and document.

A store knows keys; what they mean for reducers and students is known here.
"""
