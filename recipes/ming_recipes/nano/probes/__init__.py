"""Extra supervision of nano's tokens: objectives with linear readers, used in training only.

`cells` reads what the image encoder gives, `places` and `speech` also read early layers of the
language model. The readers are never shipped.
"""
