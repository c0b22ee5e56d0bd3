"""What a guest tells of its devices: in the initrd, before anything of the root file system runs, and in the root."""

from __future__ import annotations

from dataclasses import dataclass

END = "truth-end"
INITRD, ROOT = "initrd", "root"
PLACES = (INITRD, ROOT)

_SCRIPT = f"""\
find() {{ cd -P "$1" 2>/dev/null && found=$PWD || found=-; cd /; }}
udevadm settle --timeout=120
before= calm=0
until [ $calm -ge 5 ]; do
    now=$(echo /sys/class/block/* /sys/class/net/* /sys/bus/usb/devices/* /sys/bus/scsi/devices/*)
    [ "$now" = "$before" ] && calm=$((calm + 1)) || calm=0
    before=$now
    sleep 2
done
udevadm settle --timeout=120
echo
for bus in pci usb virtio scsi mmc; do
    for device in /sys/bus/$bus/devices/*; do
        [ -e "$device" ] || continue
        modalias=-
        while read -r line; do case "$line" in MODALIAS=*) modalias=${{line#*=}} ;; esac; done <"$device/uevent"
        find "$device"; place=$found
        find "$device/driver"; driver=${{found##*/}}
        find "$device/driver/module"
        echo "truth device $bus $place $driver ${{found##*/}} $modalias"
    done
done
for kind in net block; do
    for device in /sys/class/$kind/*; do
        find "$device"
        echo "truth $kind $found"
    done
done
dmesg | while read -r line; do
    case "$line" in *firmware*|*"probe of "*) echo "truth log $line" ;; esac
done
echo "{END} $1"
"""
"""Needs what an initrd of dracut has; forks little. Controllers look for their disks in the background: it waits until
nothing new has come for ten seconds."""

_UNIT = """\
[Unit]
Description=Tell which devices are driven, {place}
ConditionPathExists={condition}/etc/initrd-release
DefaultDependencies=no
{order}

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart=/bin/sh -c '/bin/sh /run/credentials/@system/truth.survey {place} >/dev/ttyS1 2>&1'
"""
_IN_INITRD = "After=sysroot.mount\nBefore=initrd-root-fs.target initrd-parse-etc.service\nConflicts=emergency.target"
_OF_UDEV = "systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service"
_IN_ROOT = f"Wants={_OF_UDEV}\nAfter={_OF_UDEV}"

TRUTH_CREDENTIALS = {
    "truth.survey": _SCRIPT,
    "systemd.extra-unit.truth-initrd.service": _UNIT.format(place=INITRD, condition="", order=_IN_INITRD),
    "systemd.extra-unit.truth-root.service": _UNIT.format(place=ROOT, condition="!", order=_IN_ROOT),
    "systemd.unit-dropin.initrd-root-fs.target~truth": "[Unit]\nWants=truth-initrd.service\n",
    "systemd.unit-dropin.persist.service~truth": "[Service]\nExecStart=\nExecStart=/bin/sh -c :\n",
}
TRUTH_ARGUMENTS = ("systemd.unit=truth-root.service",)
"""A boot leaves out /data, and all units of the root file system that drivers do not need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A device of a guest; "-" if it has no driver."""

    bus: str
    driver: str
    module: str
    modalias: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """``devices`` are by their path below /sys/devices, ``nets`` and ``blocks`` are paths, ``log`` are lines of the
    kernel's about firmware and failed probes."""

    devices: dict[str, Bound]
    nets: tuple[str, ...]
    blocks: tuple[str, ...]
    log: tuple[str, ...]

    def below(self, path: str) -> dict[str, Bound]:
        """The device at ``path`` and those behind it."""
        return {one: bound for one, bound in self.devices.items() if one == path or one.startswith(f"{path}/")}

    def made(self, path: str, *, is_disk: bool) -> tuple[str, ...]:
        """The disks, or network interfaces, that the device at ``path`` made."""
        places = self.blocks if is_disk else self.nets
        return tuple(one.rpartition("/")[2] for one in places if one.startswith(f"{path}/"))


def parse(told: str) -> dict[str, Truth]:
    """What a guest told, by place."""
    found = dict[str, Truth]()
    lines = list[str]()
    for line in told.replace("\r", "").splitlines():
        if line.startswith(END):
            found[line.removeprefix(END).strip()] = _truth(lines)
            lines = []
        lines.append(line)
    return found


def _truth(lines: list[str]) -> Truth:
    devices, nets, blocks, log = dict[str, Bound](), list[str](), list[str](), list[str]()
    for line in lines:
        match line.split(maxsplit=6):
            case ["truth", "device", bus, path, driver, module, modalias]:
                devices[_below(path)] = Bound(bus=bus, driver=driver, module=module, modalias=modalias)
            case ["truth", "net", path]:
                nets.append(_below(path))
            case ["truth", "block", path]:
                blocks.append(_below(path))
            case ["truth", "log", *_]:
                log.append(line.removeprefix("truth log "))
    return Truth(devices=devices, nets=tuple(nets), blocks=tuple(blocks), log=tuple(log))


def _below(path: str) -> str:
    return path.removeprefix("/sys/devices/")
