"""Find the cases, and the structures of them, that would help a model most if they were annotated."""
