"""A failure again: bundle, replay, bisect."""
