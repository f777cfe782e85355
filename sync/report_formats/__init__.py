"""Files that a report is written to."""
