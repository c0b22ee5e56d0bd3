"""The command line: a file for each command, its parser and its function side by side."""
