"""Writing an answer: preparing, prefilling, decoding, and what comes out."""
