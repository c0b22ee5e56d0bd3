"""The content-addressed store: artifacts, build layers, templates."""
