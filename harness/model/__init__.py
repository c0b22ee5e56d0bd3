"""Frozen values: definitions, artifacts, machine specs, faults, verdicts."""
