"""Find the cases, and the structures of them, that would teach a model most if they were annotated."""
