"""Speech for the Ming toolkit: talkers and audio codecs."""
