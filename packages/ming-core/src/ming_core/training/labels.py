"""The mark of tokens that are no training targets; needs no torch, so that prompts can use it."""

IGNORED = -100
"""Label of a token that is not predicted."""
