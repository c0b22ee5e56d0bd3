#!/bin/sh
# An image as a person with experience makes it: the tools that Bootproof uses, one after the other, with the
# same settings and the same downloaded packages, and nothing kept for the next time.
# Run it as root, or in a user namespace with subordinate ids, in a mount namespace of its own.
# by-hand.sh IMAGE-FOLDER DEBS OUT PYTHON VARIABLES SUITE PACKAGES,… [MMDEBSTRAP-OPTION…]
set -eu
image=$1 debs=$2 out=$3 python=$4 variables=$5 suite=$6 packages=$7
shift 7
mkdir -p "$out"
work=$(mktemp -d "$out/work.XXXXXX")
tree=$work/tree
export LC_ALL=C.UTF-8 DEBS="$debs"
export INITRD=No # one initrd, made at the end, is enough

# shellcheck disable=SC2016 # mmdebstrap runs the hooks in a shell of its own
TMPDIR=$work mmdebstrap --quiet --variant=apt --mode=root --skip=download/empty --skip=essential/unlink \
    --aptopt='APT::Sandbox::User "root"' \
    --setup-hook='mkdir -p "$1"/var/cache/apt/archives' \
    --setup-hook='mount --bind "$DEBS" "$1"/var/cache/apt/archives' \
    --customize-hook='umount "$1"/var/cache/apt/archives' \
    --include="$packages" "$@" "$suite" "$tree"

mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/run"
mount -t tmpfs tmpfs "$tree/tmp"
printf '#!/bin/sh\nexit 101\n' > "$tree/usr/sbin/policy-rc.d"
chmod +x "$tree/usr/sbin/policy-rc.d"
printf 'image ansible_host=%s ansible_connection=community.general.chroot\n' "$tree" > "$work/inventory"
ANSIBLE_HOME=$work/ansible ANSIBLE_ROLES_PATH=$image/../roles ANSIBLE_PIPELINING=1 ANSIBLE_NOCOWS=1 \
    "$python" -m ansible playbook --inventory "$work/inventory" \
    --extra-vars ansible_python_interpreter=/usr/bin/python3 --extra-vars "@$variables" "$image/playbook.yml"

kernel=$(ls "$tree/usr/lib/modules")
chroot "$tree" dracut --quiet --force --no-hostonly --reproducible --kver "$kernel" /tmp/initrd.img
cp "$tree/boot/vmlinuz-$kernel" "$out/vmlinuz"
cp "$tree/tmp/initrd.img" "$out/initrd.img"

umount -R "$tree/tmp" "$tree/run" "$tree/dev" "$tree/sys" "$tree/proc"
rm -f "$tree/usr/sbin/policy-rc.d" "$tree/etc/machine-id" "$tree"/etc/ssh/ssh_host_*
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*
: > "$tree/etc/machine-id"
mksquashfs "$tree" "$out/rootfs.squashfs" -noappend -no-progress -quiet -xattrs -comp zstd -Xcompression-level 3
rm -rf --one-file-system "$work"
