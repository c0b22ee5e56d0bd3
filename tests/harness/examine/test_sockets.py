"""What listens on the network and is not declared is found, with its program and unit."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import sockets
from harness.examine.processes import Process
from harness.examine.sockets import Socket
from harness.examine.units import UnitRow
from harness.lint.finding import LintFinding

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
TABLES = f"""\
look
/proc/net/tcp:{HEADING}
/proc/net/tcp:   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 501 1 0 100
/proc/net/tcp:   1: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   991        0 502 1 0 100
/proc/net/tcp:   2: 0A4D0A0A:0016 010A4D0A:A9D2 01 00000000:00000000 00:00000000 00000000     0        0 503 1 0 100
/proc/net/tcp6:{HEADING}
/proc/net/tcp6:   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 504 1
/proc/net/udp:{HEADING} ref pointer drops
/proc/net/udp:  1: 0A4D0A0A:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000   998        0 505 2 0 0
/proc/net/udp:  2: 0A4D0A0A:9C40 010A4D0A:0035 01 00000000:00000000 00:00000000 00000000   991        0 506 2 0 0"""
PACKETS = """
/proc/net/packet:sk               RefCnt Type Proto  Iface R Rmem   User   Inode
/proc/net/packet:0000000000000000 3      3    0003   0     1 0      0      701
/proc/net/packet:0000000000000000 3      3    88cc   2     1 0      998    702
/proc/net/packet:0000000000000000 3      3    0000   0     0 0      0      703
/sys/class/net/enp0s2/ifindex:2
/sys/class/net/lo/ifindex:1"""
DEV = "dev:Inter-|   Receive    |  Transmit\ndev: face |bytes\ndev:    lo: 0 0"
TABLE = f"tcp:{HEADING}\ntcp:   0: 00000000:1F40 00000000:0000 0A 0:0 00:0 0 0 0 800 1\nudp:{HEADING}"
OTHERS = f"""\
look
namespace /run/netns/blue
{DEV}
dev:  veth0: 0 0
{TABLE}
namespace /proc/900/ns/net
{DEV}
dev:enp0s9: 0 0
{TABLE.replace(" 800 ", " 801 ")}
namespace /proc/901/ns/net
{DEV}
{TABLE.replace(" 800 ", " 802 ")}
namespace /proc/902/ns/net"""
VSOCK = """\
Netid State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess
v_str LISTEN 0      0                  *:22              *:*    users:(("systemd",pid=1,fd=50))
v_str LISTEN 0      0                  3:99              *:*"""
SSHD, SYSTEMD = (
    Process(pid=700, name="sshd", group="/system.slice/ssh.service", sockets=frozenset({501, 504})),
    Process(pid=1, name="systemd", group="/init.scope", sockets=frozenset({501, 600})),
)


def judged(
    *listening: Socket, processes: tuple[Process, ...] = (), declared: tuple[str, ...] = ()
) -> list[LintFinding]:
    units = {
        "report.socket": UnitRow(id="report.socket", listen="0.0.0.0:8000 (Stream)"),
        "ssh.socket": UnitRow(id="ssh.socket", listen="0.0.0.0:22 (Stream) [::]:22 (Stream)"),
    }
    return list(sockets.judge(listening, {one.pid: one for one in processes}, units, declared))


def answers(tables: str = TABLES, others: str = "look", hosts: str = "absent vsock") -> dict[str, str]:
    return {
        "sockets of the network": tables,
        "sockets of other network namespaces": others,
        "sockets of virtual machines": hosts,
    }


def test_listening_sockets_are_read_and_connections_are_not() -> None:
    found = sockets.parse(answers())

    assert [(one.protocol, one.address, one.inode) for one in found] == [
        ("tcp", "0.0.0.0:22", 501),
        ("tcp", "127.0.0.53:53", 502),
        ("tcp", "[::]:22", 504),
        ("udp", "10.10.77.10:68", 505),
    ]


@pytest.mark.parametrize("text", ["look", "sorry", f"look\n/proc/net/tcp:{HEADING}"], ids=["none", "other", "no-udp"])
def test_an_answer_without_the_tables_is_an_error(text: str) -> None:
    with pytest.raises(ImageError, match="sockets of the network"):
        sockets.parse(answers(text))


def test_packet_sockets_that_take_packets_are_read_with_the_names_of_their_cards() -> None:
    found = sockets.parse(answers(TABLES + PACKETS))

    assert [(one.address, one.inode) for one in found if one.protocol == "packet"] == [
        ("*:0003", 701),
        ("enp0s2:88CC", 702),
    ]


def test_sockets_of_other_namespaces_are_read_if_a_network_reaches_them() -> None:
    found = sockets.parse(answers(others=OTHERS))

    assert [(one.namespace, one.address, one.inode) for one in found if one.namespace] == [
        ("/run/netns/blue", "0.0.0.0:8000", 800),
        ("/proc/900/ns/net", "0.0.0.0:8000", 801),
    ]


@pytest.mark.parametrize(
    "others", ["look\nnamespace /run/netns/blue", "sorry", "look\ntcp: x", f"look\nnamespace /x\n{DEV}\ndev: e:"]
)
def test_a_namespace_without_tables_is_an_error(others: str) -> None:
    with pytest.raises(ImageError, match="other network namespaces"):
        sockets.parse(answers(others=others))


def test_sockets_for_virtual_machines_are_read() -> None:
    found = sockets.parse(answers(hosts=VSOCK))

    assert [(one.address, one.pid) for one in found if one.protocol == "vsock"] == [("*:22", 1), ("3:99", 0)]


def test_what_cannot_be_looked_at_is_said() -> None:
    without = answers(others="look\nnamespace /run/netns/blue\nabsent nsenter", hosts="absent ss")

    assert [one for one in sockets.parse(without) if one.namespace or one.protocol == "vsock"] == []
    assert [sentence.split(":")[0] for sentence in sockets.parse_unseen(without)] == [
        "which sockets take packets from virtual machines (vsock)",
        "sockets of network namespaces without processes",
    ]
    assert sockets.parse_unseen(answers()) == ()


def test_what_is_declared_local_or_a_dhcp_client_is_no_finding() -> None:
    networkd = Process(pid=600, name="systemd-network", group="/system.slice/systemd-networkd.service",
                       sockets=frozenset({505, 702}))  # fmt: skip
    found = judged(
        *sockets.parse(answers(TABLES + PACKETS.replace("0003", "0000"))),
        processes=(SSHD, SYSTEMD, networkd),
        declared=("tcp 0.0.0.0:22 sshd", "tcp [::]:22 *"),
    )

    assert found == []


def test_what_is_not_declared_is_found_with_its_unit_and_the_line_to_declare() -> None:
    service = Process(pid=800, name="python3", group="/system.slice/report.service", sockets=frozenset({7}))
    (found,) = judged(Socket(protocol="tcp", address="0.0.0.0:8000", inode=7), processes=(service,))

    assert (found.id, found.path) == ("listener-undeclared", "socket:tcp 0.0.0.0:8000 python3")
    assert found.evidence == ("unit: report.service", 'listens = ["tcp 0.0.0.0:8000 python3"]')
    assert found.does_fail


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "[::]:8000", "10.0.0.1:8000"])
def test_a_socket_that_systemd_holds_is_that_of_its_unit(address: str) -> None:
    systemd = Process(pid=1, name="systemd", group="/init.scope", sockets=frozenset({7}))
    (found,) = judged(Socket(protocol="tcp", address=address, inode=7), processes=(systemd,))

    assert "unit: report.socket" in found.evidence


@pytest.mark.parametrize(
    ("protocol", "address", "name"),
    [("udp", "0.0.0.0:5355", "systemd-resolve"), ("udp", "0.0.0.0:68", "cat"), ("raw", "0.0.0.0:1", "sniffer")],
)
def test_other_protocols_are_found_too(protocol: str, address: str, name: str) -> None:
    process = Process(pid=9, name=name, group="/system.slice/x.service", sockets=frozenset({3}))
    (found,) = judged(Socket(protocol=protocol, address=address, inode=3), processes=(process,))

    assert found.path == f"socket:{protocol} {address} {name}"


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("/run/netns/blue", "in blue"), ("/proc/9/ns/net", "in box.service"), ("/proc/8/ns/net", "in another")],
)
def test_a_socket_of_another_namespace_is_declared_with_its_name(namespace: str, name: str) -> None:
    process = Process(pid=9, name="python3", group="/system.slice/box.service", sockets=frozenset({3}))
    socket = Socket(protocol="tcp", address="0.0.0.0:22", inode=3, namespace=namespace)

    (found,) = [one for one in judged(socket, processes=(process,), declared=("tcp 0.0.0.0:22 *",)) if one.does_fail]
    assert found.path == f"socket:tcp 0.0.0.0:22 python3 {name}"
    assert judged(socket, processes=(process,), declared=(f"tcp 0.0.0.0:22 python3 {name}",)) == []


def test_a_name_with_a_blank_gives_a_line_that_a_definition_takes() -> None:
    process = Process(pid=9, name="tmux: server", sockets=frozenset({3}))
    (found,) = judged(Socket(protocol="tcp", address="0.0.0.0:1", inode=3), processes=(process,))

    assert found.evidence[1] == 'listens = ["tcp 0.0.0.0:1 tmux:*server"]'


def test_a_socket_for_virtual_machines_is_found_by_its_process() -> None:
    (found,) = judged(Socket(protocol="vsock", address="*:22", pid=1), processes=(SYSTEMD,))

    assert found.path == "socket:vsock *:22 systemd"


def test_a_socket_of_the_kernel_is_found() -> None:
    (found,) = judged(Socket(protocol="udp", address="0.0.0.0:51820", inode=0))

    assert found.path == "socket:udp 0.0.0.0:51820 -"


def test_a_line_for_nothing_is_a_warning() -> None:
    (found,) = judged(declared=("tcp 0.0.0.0:22 sshd",))

    assert (found.id, found.does_fail) == ("listener-missing", False)
