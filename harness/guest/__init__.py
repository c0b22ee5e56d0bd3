"""What runs inside a machine: its console, its channels, its readiness and health."""
