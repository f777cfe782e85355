"""`his160 doctor`: looks at everything an agent needs, and says how to mend what is wrong."""
