"""Released checkpoint folders in, released checkpoint folders out (docs/formats.md)."""
