"""What a run proved: coverage, attribution, assembly."""
