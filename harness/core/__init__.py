"""The foundation of all other packages: errors, deadlines, processes, locks, serialization, text."""
