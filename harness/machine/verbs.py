"""What a test does in a guest, in the NixOS test driver's words: run, check, wait_for_unit, wait_until_succeeds …"""

from __future__ import annotations

from abc import ABC, abstractmethod

from harness.core.deadline import Deadline
from harness.guest import waiting
from harness.guest.channel import Channel, Completed
from harness.guest.unit_names import name_in_guest


class GuestVerbs(ABC):
    """Commands and waits in a guest that is reached through ``channel``.

    Without a ``deadline`` a wait takes `waiting.WAIT_S` seconds, and longer on a slow host. After it `WaitFailed` says
    what was seen last.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The machine's, for errors."""

    @property
    @abstractmethod
    def channel(self) -> Channel:
        """How commands reach the guest."""

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        """Run a shell command in the guest as root; any status is an answer."""
        return self.channel.run(command, deadline)

    def check(self, command: str, deadline: Deadline | None = None) -> str:
        """The output of ``command``, without the last newline; `ImageError` for any status but 0."""
        return self.run(command, deadline).checked(self.name)

    def systemctl(self, arguments: str, deadline: Deadline | None = None) -> Completed:
        """Run ``systemctl`` with these arguments: ``machine.systemctl("restart ssh.service")``; any status is an
        answer."""
        return self.run(f"systemctl --no-pager {arguments}", deadline)

    def wait_for_unit(self, unit: str, deadline: Deadline | None = None) -> None:
        """Wait until the systemd unit is active. Fails at once when it is ``failed``."""
        waiting.wait(self.name, self.channel, waiting.unit_is_active(self.unit_name(unit)), deadline)

    def unit_name(self, unit: str) -> str:
        """The guest's name for ``unit``: ``sshd.service`` for ``ssh.service`` on Fedora."""
        return name_in_guest(self.name, self.channel, unit)

    def wait_for_open_port(self, port: int, address: str = "127.0.0.1", deadline: Deadline | None = None) -> None:
        """Wait until a TCP connection from inside the guest to ``port`` of ``address`` succeeds."""
        waiting.wait(self.name, self.channel, waiting.port_is_open(port, address), deadline)

    def wait_for_file(self, path: str, deadline: Deadline | None = None) -> None:
        """Wait until ``path`` exists, be it a file, a folder or a link to one."""
        waiting.wait(self.name, self.channel, waiting.file_exists(path), deadline)

    def wait_until_succeeds(self, command: str, deadline: Deadline | None = None) -> str:
        """Run ``command`` again until its status is 0; its output then, without the last newline."""
        return waiting.wait(self.name, self.channel, waiting.command_succeeds(command), deadline)

    def wait_until_fails(self, command: str, deadline: Deadline | None = None) -> None:
        """Run ``command`` again until its status is not 0. A command that cannot be run (126, 127) has not failed."""
        waiting.wait(self.name, self.channel, waiting.command_fails(command), deadline)
