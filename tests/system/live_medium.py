"""Makes a live medium in the layout of Ubuntu's server medium: casper in an initrd of initramfs-tools, and a root file
system of layers. livecd-rootfs makes Ubuntu's by the same steps.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from harness.build import bootstrap, chroot
from harness.core.namespaces import remove
from harness.model.definition import load_definition
from harness.store.store import Store

LOWER, UPPER = "ubuntu-server-minimal", "ubuntu-server-minimal.ubuntu-server"
"""The layers, by their names in Ubuntu's medium: the upper one names the one below it."""
ABSENT = "iputils-ping"
"""A package of the lower layer that the upper one removes."""

_ROOT = Path(__file__).parents[2]
_DRACUT = {"dracut", "dracut-network", "dmsetup"}
_INITRD = f"""
set -eu
echo export CASPER_GENERATE_UUID=1 >/etc/initramfs-tools/conf.d/casperize.conf
echo LAYERFS_PATH={UPPER}.squashfs >/etc/initramfs-tools/conf.d/default-layer.conf
version=$(ls /usr/lib/modules)
mkinitramfs -o /mnt/initrd "$version"
cp "/boot/vmlinuz-$version" /mnt/vmlinuz
chmod 644 /mnt/initrd /mnt/vmlinuz
unmkinitramfs /mnt/initrd /tmp/initrd
mkdir -p /mnt/medium/.disk /mnt/medium/casper
find /tmp/initrd -name uuid.conf -exec cp {{}} /mnt/medium/.disk/casper-uuid-generic ';'
echo 'Ubuntu-Server 26.04 LTS "Resolute Raccoon" - Release amd64' >/mnt/medium/.disk/info
rm -f /usr/sbin/policy-rc.d /boot/vmlinuz* /boot/initrd*
: >/etc/machine-id
"""
_SYSTEM = f"""
set -eu
dpkg --purge {ABSENT}
cp -r /mnt/files/. /
systemctl disable ssh.socket
systemctl enable ssh.service systemd-networkd.service systemd-resolved.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer motd-news.timer
rm -f /usr/sbin/policy-rc.d
echo IMAGE_VERSION=2026.11 >>/usr/lib/os-release
"""
_OVERLAY = """
set -eu
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=$1/tree,upperdir=$1/upper,workdir=$1/work" "$1/merged"
shift
exec "$@"
"""
_SQUASHFS = "-comp zstd -Xcompression-level 1 -quiet -no-progress"
_MEDIUM = f"""
set -eu
cd "$1"
for layer in "tree {LOWER}" "upper {UPPER}"; do
    mksquashfs ${{layer% *}} "out/medium/casper/${{layer#* }}.squashfs" {_SQUASHFS}
done
cd out/medium
find . -type f ! -name md5sum.txt -exec md5sum {{}} + >md5sum.txt
xorriso -as mkisofs -quiet -R -J -V Ubuntu-Server -o "$2/ubuntu-live-server-amd64.iso" .
mv ../vmlinuz ../initrd "$2"
"""


def make_live_medium(folder: Path, store: Store) -> None:
    """Put kernel, initrd and ISO into ``folder``, as Ubuntu publishes them for netboot."""
    ubuntu = load_definition(_ROOT / "images" / "base-ubuntu")
    packages = {*ubuntu.packages} - _DRACUT | {"casper", "initramfs-tools", "openssl", "ca-certificates"}
    with store.workfolder(remove=remove) as work:
        with store.locked(f"debs-{ubuntu.suite}"):
            definition = replace(ubuntu, packages=tuple(packages))
            bootstrap.bootstrap(definition, store, work, mirror=None, log=work / "log")
        _pack(work, folder)


def _pack(work: Path, folder: Path) -> None:
    tree, merged, out, log = work / "tree", work / "merged", work / "out", work / "log"
    shutil.copytree(_ROOT / "images/roles/base/files", out / "files")
    chroot.run(chroot.entering(tree, ["chroot", str(tree), "sh", "-c", _INITRD], out=out), log=log)
    system = chroot.entering(merged, ["chroot", str(merged), "sh", "-c", _SYSTEM], out=out)
    chroot.run(["sh", "-c", _OVERLAY, "overlay", str(work), *system], log=log)
    chroot.run(["sh", "-c", _MEDIUM, "medium", str(work), str(folder)], log=log)
