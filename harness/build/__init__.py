"""The thin builder: it calls mmdebstrap, Ansible, dracut and mksquashfs, and records."""
