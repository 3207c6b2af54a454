"""The backbone, written to be read next to the reports."""
