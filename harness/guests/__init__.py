"""What an image promises to the guests of its hosts, and whether a version keeps it."""
