"""MIL ops by family; each module registers its own when it is imported (`registry.load`)."""
