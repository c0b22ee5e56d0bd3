"""One QEMU over its boots; templates and clones."""
