"""Builds artifacts with mmdebstrap, Ansible, dracut and mksquashfs, and imports artifacts of other builders."""
