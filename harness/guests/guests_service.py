"""libvirt-guests.service: what it does with the guests of a host that goes down and comes up."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.errors import ImageError
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guests.expectations import Ending

UNIT = "libvirt-guests.service"
_READ = Probe(
    "settings of libvirt-guests",
    f"""\
unit={UNIT}
script=$(systemctl show -p ExecStart --value $unit | sed -n 's/.*path=\\([^ ;]*\\).*/\\1/p')
ON_BOOT=start ON_SHUTDOWN=suspend
[ ! -f "$script" ] || eval "$(grep -E '^ON_(BOOT|SHUTDOWN)=' "$script")"
file=$(systemctl show -p EnvironmentFiles --value $unit | sed -n '1s/ (ignore_errors=.*//p')
[ ! -f "$file" ] || . "$file"
echo "active=$(systemctl show -p ActiveState --value $unit)"
echo "boot=$ON_BOOT"
echo "shutdown=$ON_SHUTDOWN"
echo "file=$file"
""",
)
"""libvirt-guests(8): the script has defaults, which distributions change, and reads the file of settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestsService:
    """``file`` has its settings. Where the unit is not active, guests are not even told that their host goes down."""

    is_active: bool
    starts_on_boot: bool
    on_shutdown: str
    file: str


def read_service(channel: Channel) -> GuestsService:
    """The settings of the host behind ``channel``. `ImageError` if it does not tell."""
    return read(ask(channel, [_READ]), _READ, parse)


def parse(text: str) -> GuestsService:
    fields = dict(line.split("=", 1) for line in text.splitlines())
    return GuestsService(
        is_active=fields["active"] == "active",
        starts_on_boot=fields["boot"] == "start",
        on_shutdown=fields["shutdown"],
        file=fields["file"],
    )


def set_ending(channel: Channel, service: GuestsService, ending: Ending) -> None:
    """Let the host treat its guests so when it goes down the next time; the file is in RAM."""
    if not service.file:
        raise ImageError(f"{UNIT} has no file of settings (EnvironmentFile=)")
    channel.run(f"printf '\\nON_SHUTDOWN=%s\\n' {ending} >>{service.file}").checked()


def credentials(*, starts_on_boot: bool, file: str) -> dict[str, str]:
    """systemd credentials that give the next boot this setting, before the service reads it."""
    value = "start" if starts_on_boot else "ignore"
    drop_in = f"[Service]\nExecStartPre=/bin/sh -c 'echo ON_BOOT={value} >>{file}'\n"
    return {f"systemd.unit-dropin.{UNIT}~mode": drop_in}
