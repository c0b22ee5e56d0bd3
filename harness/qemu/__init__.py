"""QEMU on paper and over QMP: argv, disks, boot disk, iPXE script, snapshots."""
