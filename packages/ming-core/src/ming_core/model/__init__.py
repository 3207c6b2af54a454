"""The backbone. Read it next to the reports: names and shapes are the same."""
