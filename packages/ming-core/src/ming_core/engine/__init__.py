"""Answers: prompts are prepared and computed, tokens are decoded, and an `Answer` is made."""
