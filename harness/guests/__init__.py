"""Guests of the hypervisor image under test: what its machines run."""
