"""A third-party package with three heads, which the tests register and use."""
