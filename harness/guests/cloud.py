"""Calls the APIs of a control plane in a lab, by openstacksdk in this process: the lab only carries the connections."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.core.errors import optional

if TYPE_CHECKING:
    from openstack.connection import Connection

Connect = Callable[[int, float | None], socket.socket]
"""Connects to a port of the control plane, within that many seconds (None: for ever); `OSError` if it is not there."""
CALL_S = 300.0
"""A call may take as long on the reference machine: an emulated service answers its first one after half a minute."""


def open_cloud(settings: Mapping[str, Any], connect: Connect, timeout_s: float = CALL_S) -> Connection:
    """openstacksdk's connection for ``settings``, those of one cloud in clouds.yaml.

    Every URL leads through ``connect``, whatever its host: the catalog has names that only the lab resolves. Nothing is
    called yet. `MissingExtra` without openstacksdk.
    """
    with optional("openstack", "calling a control plane needs openstacksdk"):
        import requests
        from keystoneauth1.identity.v3 import Password
        from keystoneauth1.session import Session
        from openstack.connection import Connection

    http = requests.Session()
    http.trust_env = False  # a proxy of this host does not reach into the lab
    http.mount("http://", _adapter(connect))
    session = Session(auth=Password(**settings["auth"]), session=http, timeout=timeout_s)
    return Connection(session=session, region_name=settings.get("region_name"))


def _adapter(connect: Connect) -> Any:
    """A transport of requests whose sockets come from ``connect``."""
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    class LabConnection(HTTPConnection):
        def connect(self) -> None:
            self.sock = connect(self.port, self.timeout)

    class LabPool(HTTPConnectionPool):
        ConnectionCls = LabConnection

    adapter = HTTPAdapter()
    adapter.poolmanager.pool_classes_by_scheme = {"http": LabPool}
    return adapter
