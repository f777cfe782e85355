"""Parts of the simulators: what each of them knows, by subject."""
