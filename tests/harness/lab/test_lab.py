"""A lab is one process tree with its own network, and leaves nothing behind, however it ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError, UsageError
from harness.lab import Lab, LabError, choose_network, open_lab
from harness.model.network_faults import read


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab"), names={5: "compute"}) as lab:
        yield lab


@pytest.fixture(scope="module", params=["lab", "user"])
def any_lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """What holds for both kinds."""
    if request.param == "lab":
        yield request.getfixturevalue("lab")
        return
    with open_lab(tmp_path_factory.mktemp("user"), request.param) as lab:
        yield lab


Shell = Callable[[str], str]


@pytest.fixture
def shell(lab: Lab, tmp_path: Path) -> Shell:
    """What a shell command prints in the lab."""

    def run(command: str) -> str:
        with (tmp_path / "output").open("w+b") as file:
            child = lab.spawn(["sh", "-c", command], stdout=file.fileno(), stderr=file.fileno())
            assert child.wait(Deadline(10)) == 0, (tmp_path / "output").read_text()
            return (tmp_path / "output").read_text()

    return run


def test_the_network_inside_is_its_own(shell: Shell) -> None:
    assert "10.77.0.1/24" in shell("ip -brief address show br0")
    assert shell("ls /sys/class/net /proc/1/comm") != ""
    assert "eth" not in shell("ip -brief link")
    assert len(shell("ip route").splitlines()) == 1


def test_its_first_process_is_the_supervisor(shell: Shell) -> None:
    assert "supervisor.py" in shell("tr '\\0' ' ' </proc/1/cmdline")


def test_taps_are_made_once_and_are_on_the_bridge(lab: Lab, shell: Shell) -> None:
    assert (lab.tap(3), lab.tap(3)) == ("tap3", "tap3")
    assert "master br0" in shell("ip link show tap3")


@pytest.mark.parametrize(
    ("labels", "address"),
    [
        (b"\x03lab\x03lab\x04test", (10, 77, 0, 1)),
        (b"\x0acontroller\x03lab\x04test", (10, 77, 0, 73)),
    ],
)
def test_names_are_answered_in_the_lab(lab: Lab, labels: bytes, address: tuple[int, ...]) -> None:
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00\x00\x01\x00\x01"
    program = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto({query!r}, ("10.77.0.1", 53))
raise SystemExit(s.recv(512)[-4:] != bytes({list(address)}))
"""
    assert lab.spawn([sys.executable, "-I", "-c", program]).wait(Deadline(10)) == 0


def test_a_socket_that_listens_inside_is_served_from_outside(lab: Lab) -> None:
    with lab.listen(8080) as listening:
        child = lab.spawn(["bash", "-c", "exec 3<>/dev/tcp/10.77.0.1/8080; read -r line <&3; test $line = hello"])
        listening.settimeout(5)
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"hello\n")
            assert child.wait(Deadline(10)) == 0


def test_a_port_that_is_taken_is_an_error_that_names_it(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"could not listen on 10\.77\.0\.1:80: OSError.*in use"):
        lab.listen(80)


def test_descriptors_keep_their_numbers(any_lab: Lab) -> None:
    """Pairs whose numbers cross: each is the other's source somewhere."""
    pairs = [socket.socketpair() for _ in range(4)]
    numbers = [theirs.fileno() for _, theirs in pairs]
    script = "; ".join(f"printf {number} >&{number}" for number in numbers)
    child = any_lab.spawn(["bash", "-c", script], pass_fds=numbers)
    for _, theirs in pairs:
        theirs.close()

    assert child.wait(Deadline(10)) == 0
    for (ours, _), number in zip(pairs, numbers, strict=True):
        with ours:
            assert ours.recv(100) == str(number).encode()


def test_a_child_has_no_descriptors_but_its_own(any_lab: Lab, tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as file:
        any_lab.spawn(["ls", "/proc/self/fd"], stdout=file.fileno()).wait(Deadline(10))
    assert len((tmp_path / "output").read_text().split()) == 4  # 0, 1, 2 and the folder being listed


def test_the_exit_status_is_reported_once(any_lab: Lab) -> None:
    seen: list[int] = []
    has_ended = threading.Event()

    def note(status: int) -> None:
        seen.append(status)
        has_ended.set()

    child = any_lab.spawn(["sh", "-c", "exit 7"], on_exit=note)

    assert child.wait(Deadline(10)) == 7
    assert has_ended.wait(5)
    assert seen == [7]
    child.signal(signal.SIGTERM)  # too late: no error, and nobody else's process


def test_the_pid_is_that_outside(any_lab: Lab) -> None:
    child = any_lab.spawn(["sleep", "60"])

    name = Path(f"/proc/{child.pid}/comm")
    assert poll(lambda: name.read_text() == "sleep\n", Deadline(5), every_s=0.01)
    assert child.wait(Deadline(0.05, scaled=False)) is None
    assert child.end() == -signal.SIGTERM


def test_what_ignores_the_polite_request_is_killed(any_lab: Lab) -> None:
    read, write = os.pipe()
    child = any_lab.spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done"], stdout=write)
    os.close(write)
    with open(read, "rb") as output:
        output.readline()
        assert child.end(grace_s=0.05) == -signal.SIGKILL


def test_a_missing_program_is_the_host_s_fault(any_lab: Lab) -> None:
    with pytest.raises(HostError, match="no-such-program is not installed"):
        any_lab.spawn(["no-such-program"])


def test_a_fault_in_a_listener_does_not_deafen_the_others(any_lab: Lab) -> None:
    def fail(_status: int) -> None:
        raise ValueError("planted")

    reported = list[threading.ExceptHookArgs]()
    hook, threading.excepthook = threading.excepthook, reported.append
    try:
        any_lab.spawn(["true"], on_exit=fail).wait(Deadline(10))
        assert any_lab.spawn(["true"]).wait(Deadline(10)) == 0
    finally:
        threading.excepthook = hook
    assert "planted" in str(reported[0].exc_value)


SERVE = """
import socket, sys
with socket.create_server(("10.77.0.1", 5000)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    connection.sendall(connection.recv(100).upper())
"""


def test_this_process_connects_to_machines_in_the_lab(lab: Lab) -> None:
    read, write = os.pipe()
    server = lab.spawn([sys.executable, "-I", "-c", SERVE], stdout=write)
    os.close(write)
    with open(read, "rb") as output:
        output.readline()

    with lab.connect("10.77.0.1", 5000, 5.0) as connection:
        connection.sendall(b"who is there")
        assert connection.recv(100) == b"WHO IS THERE"
        assert connection.gettimeout() == 5.0
    assert server.wait(Deadline(10)) == 0


def test_a_connection_that_is_refused_is_an_error(lab: Lab) -> None:
    with pytest.raises(ConnectionRefusedError, match=r"connect to 10.77.0.1:5001"):
        lab.connect("10.77.0.1", 5001, 5.0)


def test_a_connection_that_nobody_answers_ends(lab: Lab) -> None:
    with pytest.raises(OSError, match=r"connect to 10.77.0.9:5000"):
        lab.connect("10.77.0.9", 5000, 0.05)


def test_the_user_network_has_no_such_connections(tmp_path: Path) -> None:
    with open_lab(tmp_path, "user") as lab, pytest.raises(HostError, match="not on the user network"):
        lab.connect("10.77.0.9", 5000, 1.0)


def test_long_command_lines_arrive(any_lab: Lab) -> None:
    word = "x" * 100_000
    assert any_lab.spawn(["sh", "-c", f"test ${{#1}} = {len(word)}", "sh", word]).wait(Deadline(10)) == 0


def test_a_lab_and_its_processes_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "harness"),
        open_lab(tmp_path, "user", network_faults=[read("http-cut-rootfs")]) as lab,
    ):
        child = lab.spawn(["sh", "-c", "sleep 0.2", "a b"])  # one that ends at once may have no process id any more
        child.wait(Deadline(10))

    for line in (
        f"lab opened on network user: {tmp_path}",
        "network faults: http-cut-rootfs",
        f"process {child.pid} in the lab ended with status 0",
        f"lab closed: {tmp_path}",
    ):
        assert line in caplog.messages
    assert any(
        line.startswith(f"process {child.pid} started in the lab: ") and "'sleep 0.2' 'a b'" in line
        for line in caplog.messages
    )


@pytest.mark.parametrize("network", ["lab", "user"])
def test_what_runs_in_a_lab_ends_with_it(tmp_path: Path, network: str) -> None:
    with open_lab(tmp_path, network) as lab:
        child = lab.spawn(["sh", "-c", "trap '' TERM HUP; sleep 600"])
        pid = child.pid

    assert not Path(f"/proc/{pid}").exists()
    assert child.status == -signal.SIGKILL
    with pytest.raises(LabError, match="it has ended"):
        lab.spawn(["true"])


def test_the_end_of_a_lab_ends_every_wait(tmp_path: Path) -> None:
    with open_lab(tmp_path, "lab") as lab:
        child = lab.spawn(["sleep", "600"])
        lab.spawn(["sh", "-c", "kill -9 -1"])  # all but the supervisor, which no signal from inside reaches
        assert child.wait(Deadline(5)) == -signal.SIGKILL


def test_a_lab_whose_dhcp_server_ends_by_itself_says_so(tmp_path: Path) -> None:
    with open_lab(tmp_path) as lab:
        assert lab.problem == ""
        killed = lab.spawn(["sh", "-c", 'exec kill -9 "$(pidof dnsmasq)"'])
        assert killed.wait(Deadline(5)) == 0

        assert poll(lambda: lab.problem, Deadline(5), every_s=0.01), "the end of a child is reported"
        assert lab.problem.startswith("the lab's dnsmasq ended with status -9: ")


def test_what_runs_on_the_user_network_ends_with_its_supervisor_too(tmp_path: Path) -> None:
    with open_lab(tmp_path, "user") as lab:
        child = lab.spawn(["sleep", "600"])
        assert poll(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n", Deadline(5), every_s=0.01)
        os.kill(_parent(child.pid), signal.SIGKILL)
        assert child.wait(Deadline(5)) == -signal.SIGKILL
        assert poll(lambda: not Path(f"/proc/{child.pid}").exists(), Deadline(5), every_s=0.01)


def test_what_only_a_lab_has_is_refused_by_the_user_network_in_a_sentence(tmp_path: Path) -> None:
    with open_lab(tmp_path, "user") as lab:
        with pytest.raises(HostError, match=r"not on the user network: tap 1, 0; --network lab has it"):
            lab.tap(1)
        with pytest.raises(HostError, match=r"not on the user network: a server on port 8080; --network lab has it"):
            lab.listen(8080)


_CHOOSE = """
import sys, tempfile
from pathlib import Path
from harness.core.errors import HostError
from harness.lab import choose_network, open_lab
print(choose_network("auto"))
with tempfile.TemporaryDirectory() as folder, open_lab(Path(folder)) as lab:
    print("opened", lab.network, lab.spawn(["sleep", "9"]).pid > 0)
try:
    choose_network("lab")
except HostError as error:
    print("refused", error)
"""


def _printed_on_a_host_where(setting: str) -> str:
    """What the network's choice comes to after ``setting``, a shell command, in namespaces of its own."""
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f'{setting}\nexec "$@"', "sh"]
    argv += [sys.executable, "-c", _CHOOSE]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_root_opens_a_lab_without_user_namespaces() -> None:
    printed = _printed_on_a_host_where("echo 0 > /proc/sys/user/max_user_namespaces")

    assert "opened lab True" in printed
    assert "refused" not in printed


def test_without_the_tun_device_the_user_network_is_taken_and_the_reason_named() -> None:
    printed = _printed_on_a_host_where("mount -t tmpfs tmpfs /dev/net")

    assert "opened user True" in printed
    assert "no lab without /dev/net/tun" in printed.splitlines()[0]
    assert "sudo modprobe tun, or use --network auto or user" in printed


def test_without_any_namespaces_the_user_network_is_taken_and_the_remedy_named() -> None:
    zero = "for kind in user net; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done"
    printed = _printed_on_a_host_where(zero)

    assert "opened user True" in printed
    assert "no lab without namespaces: unshare: unshare failed" in printed.splitlines()[0]
    assert "sudo sysctl -w user.max_user_namespaces=10000" in printed


def test_an_unknown_network_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no network 'wifi'; known: auto, lab, user"):
        choose_network("wifi")


_VICTIM = """
import sys, time
from pathlib import Path
from harness.lab import open_lab
with open_lab(Path(sys.argv[1]), sys.argv[2]) as lab:
    child = lab.spawn(["sleep", "600"])
    supervisor = Path(f"/proc/{child.pid}/stat").read_text().split()[3]
    print(child.pid, supervisor, flush=True)
    time.sleep(600)
"""


def _runs(pid: int) -> bool:
    """A zombie has ended; when the host's process 1 buries it is its own affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("network", ["lab", "user"])
def test_nothing_is_left_two_seconds_after_kill_minus_nine(tmp_path: Path, network: str) -> None:
    before = set(Path(tmp_path.parent).iterdir())
    argv = [sys.executable, "-c", _VICTIM, str(tmp_path), network]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as victim:
        assert victim.stdout is not None
        pids = victim.stdout.readline().split()
        victim.kill()

    deadline = Deadline(2.0, scaled=False)
    assert poll(lambda: not any(_runs(int(pid)) for pid in pids), deadline, every_s=0.01)
    assert not _processes_that_mention(str(tmp_path))
    assert set(Path(tmp_path.parent).iterdir()) == before


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _processes_that_mention(text: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if text in line and int(file.parent.name) != os.getpid():
            found.append(line)
    return found
