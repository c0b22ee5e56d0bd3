#!/bin/bash
# dracut module: /data, the machine-id and the SSH host keys, before the real root starts.

check() {
    return 255 # only if a configuration names it
}

depends() {
    echo bash systemd dracut-systemd fs-lib
}

installkernel() {
    hostonly="" instmods ext4 vfat nls_ascii nls_cp437 loop
}

install() {
    inst_multiple cat chroot cp dd dmesg e2fsck flock lsblk mkdir mkfs.ext4 mkfs.vfat mount mv od readlink rm sleep sync \
        systemd-repart tr udevadm umount wipefs
    inst_simple /usr/lib/persist/mke2fs.conf /etc/mke2fs.conf
    inst_multiple /usr/lib/persist/persist /usr/lib/persist/config /usr/lib/persist/repart.d/*.conf
    inst_simple /usr/lib/systemd/system/persist.service
    # shellcheck disable=SC2154 # dracut sets both
    $SYSTEMCTL -q --root "$initdir" enable persist.service
}
