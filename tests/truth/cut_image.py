"""nova-kvm with other drivers: some removed, blacklisted or replaced by nothing, and with firmware that it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.build import chroot
from harness.model.artifacts import INITRD, Artifacts, describe

_INSIDE = r"""
set -eu
mkdir /mnt/initrd
cd /mnt/initrd
/usr/lib/dracut/skipcpio ../initrd.img | zstd -dcq | cpio -idm --quiet
for place in / /mnt/initrd; do
    cd $place
    rm usr/lib/modules/{version}/kernel/drivers/scsi/sym53c8xx_2/sym53c8xx.ko*
    rm usr/lib/modules/{version}/kernel/drivers/net/mii.ko*
    mkdir -p etc/modprobe.d
    printf '%s\n' 'blacklist nvme' 'blacklist tulip' 'install vmxnet3 /bin/false' >etc/modprobe.d/site.conf
    depmod -b $place {version}
    mkdir -p usr/lib/firmware/kaweth
    for name in new_code new_code_fix trigger_code trigger_code_fix; do
        printf '%064d' 0 >usr/lib/firmware/kaweth/$name.bin
    done
done
cd /mnt/initrd
find . -print0 | cpio -o0 -H newc --quiet | zstd -q1 >../new.img
cd /
rm -rf /mnt/initrd /mnt/initrd.img
"""
"""Modules that need the removed ones cannot be loaded either: e100, 8139cp, pcnet32 and usbnet need mii."""


def make(good: Artifacts, folder: Path) -> Artifacts:
    """The image, in the new ``folder``. It has the programs that change it: cpio, zstd, depmod."""
    tree, rootfs, initrd = folder / "tree", folder / good.manifest.rootfs, folder / INITRD
    inside = folder / "inside"
    inside.write_text(_INSIDE.format(version=good.manifest.kernel_version), "utf-8")
    steps = (
        f"unsquashfs -no-progress -quiet -dest {tree} {good.rootfs}",
        f"cp {good.initrd} {tree}/mnt/initrd.img",
        f"/usr/sbin/chroot {tree} /bin/bash <{inside}",
        f"mv {tree}/mnt/new.img {initrd}",
        f"mksquashfs {tree} {rootfs} -noappend -no-progress -quiet -xattrs -comp zstd -Xcompression-level 1",
        f"rm -rf {tree}",
    )
    chroot.run(["bash", "-ec", "\n".join(steps)], log=folder / "log")
    (folder / good.kernel.name).symlink_to(good.kernel)
    files = {**good.manifest.files, rootfs.name: describe(rootfs), INITRD: describe(initrd)}
    image = f"{good.manifest.image}-cut"
    return Artifacts(folder=folder, manifest=replace(good.manifest, image=image, files=files))
