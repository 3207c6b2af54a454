"""How the model is computed fast: products, norms, attention and experts as plain functions.

The modules of `ming_core.model` say what is computed. The functions here choose among several ways
to compute it, by device, dtype and size: those of torch, of oneDNN, and some of our own.
"""
