"""Images for prompts: the contract of generators, and the painter, which needs no download."""
