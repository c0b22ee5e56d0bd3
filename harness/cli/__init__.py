"""The command `bootproof`: a file a command."""
