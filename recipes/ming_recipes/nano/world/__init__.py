"""Shapes world: an endless, exactly labelled picture world, generated from integers.

Nothing is stored: a record is a pure function of (world version, split, index). `scene` draws what
is in a picture, `render` draws the pixels, `language` asks about it in English and Chinese,
`records` writes JSON lines, `tokenizer` trains the matching byte-level BPE and `batch` yields
training examples with dense labels.
"""
