"""Bootproof's own tests use Bootproof's own plugin, installed or not."""

pytest_plugins = ["harness.plugin"]
