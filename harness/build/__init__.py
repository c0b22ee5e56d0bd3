"""Builds artifacts: a tree of a distribution, Ansible, dracut and mksquashfs. Imports artifacts of other builders."""
