"""Understanding: questions about images, answered in text."""
