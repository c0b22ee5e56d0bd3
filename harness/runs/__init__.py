"""The folder of one run, its events and its progress; the history of earlier runs."""
