"""What everything else stands on: errors, deadlines, processes, locks, serialization, text."""
