"""Builders of the built-in world: they make its weights, pairs and truth; using the world needs none of this."""
