"""One module for each area that the doctor looks at."""
