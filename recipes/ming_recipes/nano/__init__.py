"""nano from nothing: its world, its training and its scores."""
