"""Stage "label": human votes and scores become training targets, by a recipe that reads as prose.

A recipe is a list of steps (`steps`), or the name of one (`recipes`); `recipe.build_labels` runs it.
"""
