"""The releases that the core knows: one module for each, and all that is special about it."""
