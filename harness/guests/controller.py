"""A control plane in a lab: a machine like any other, by the name ``controller``, and what hosts need to reach it.

An image is a control plane if it has /etc/openstack/clouds.yaml with one cloud, its administrator, and below
/etc/control-plane/seed the files, under their paths, that a host needs on /data.
"""

from __future__ import annotations

import base64
import io
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from harness.core.deadline import Deadline, host_scale, poll
from harness.core.errors import HostError
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guests.cloud import CALL_S, open_cloud
from harness.lab import Lab, open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import Machine
from harness.machine.states import Versions
from harness.machine.template_store import TemplateStore
from harness.machine.templates import Templates, TemplateSpec
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import (
    CONTROLLER,
    CONTROLLER_NUMBER,
    Accelerator,
    MachineSpec,
    Network,
    default_boot_path,
)
from harness.model.seed_file import SeedFile
from harness.runs.folder import Run
from harness.store.store import find_store

if TYPE_CHECKING:
    from openstack.connection import Connection

_SLOWER = 7.0
"""Its boot takes some 750 s of an emulated CPU, where that of a hypervisor takes 100: it starts ten services."""
ANSWERS_S = 600.0
"""For all of them to answer, on the reference machine, once the machine is ready."""
_CLOUDS = Probe("clouds.yaml", "cat /etc/openstack/clouds.yaml")
_SEED = Probe("files for hosts", "tar -C /etc/control-plane/seed -cf /run/seed.tar . && base64 /run/seed.tar")
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A control plane that runs in the lab of a test: ``cloud`` is openstacksdk's connection as its administrator,
    ``seed`` are the files of hosts that belong to it."""

    machine: Machine
    cloud: Connection
    seed: tuple[SeedFile, ...]


def templates_of(
    definition: ImageDefinition,
    artifacts: Artifacts,
    *,
    accelerator: Accelerator,
    network: Network,
    run: Run,
    context_of: Callable[[Lab], BootContext],
) -> Templates:
    """Makes machines of that image as ``controller``: clones of one that answers. ``run`` gets what its boots say."""
    machine = MachineSpec(
        name=CONTROLLER,
        number=CONTROLLER_NUMBER,
        uuid=uuid.uuid4(),
        boot_path=default_boot_path(definition.boot_paths),
        accelerator=accelerator,
        cpus=definition.cpus,
        memory_mib=definition.memory_mib,
    )
    spec = TemplateSpec(
        definition=definition,
        versions=Versions(artifacts, artifacts, artifacts, artifacts),
        machine=machine,
        network=network,
        label=CONTROLLER,
    )
    return Templates(
        spec=spec,
        store=TemplateStore(store=find_store(), run=run),
        open_lab=partial(open_lab, network=network),
        context_of=lambda lab: _patient(context_of(lab)),
        warm_up=lambda machine: wait_until_it_answers(read_control_plane(machine)),
    )


def _patient(context: BootContext) -> BootContext:
    timeouts = context.timeouts
    longer = replace(timeouts, boot_s=_SLOWER * timeouts.boot_s, quiet_s=_SLOWER * timeouts.quiet_s)
    return replace(context, timeouts=longer)


def read_control_plane(machine: Machine) -> ControlPlane:
    """The control plane that ``machine`` runs; `ImageError` if its image is none."""
    settings, seed = read_access(machine.channel)
    lab, address = machine.context.lab, machine.spec.address
    cloud = open_cloud(
        settings, lambda port, timeout_s: lab.connect(address, port, timeout_s), timeout_s=CALL_S * host_scale()
    )
    return ControlPlane(machine=machine, cloud=cloud, seed=seed)


def read_access(channel: Channel) -> tuple[dict[str, Any], tuple[SeedFile, ...]]:
    """The administrator's cloud, as in clouds.yaml, and the files of hosts."""
    answers = ask(channel, (_CLOUDS, _SEED), most_bytes=_MOST_BYTES)
    return read(answers, _CLOUDS, _cloud), read(answers, _SEED, lambda text: tuple(_files(text)))


def _cloud(text: str) -> dict[str, Any]:
    (cloud,) = yaml.safe_load(text)["clouds"].values()
    return dict(cloud)


def _files(text: str) -> Iterator[SeedFile]:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text))) as tar:
        for member in tar:
            if content := tar.extractfile(member):
                yield SeedFile(
                    path=member.name.removeprefix("."),
                    content=content.read(),
                    owner=member.uname,
                    group=member.gname,
                    mode=member.mode,
                )


def wait_until_it_answers(control_plane: ControlPlane, deadline: Deadline | None = None) -> None:
    """Ask each service until all have answered. `HostError` if one does not: it is not the tested image's doing."""
    deadline = deadline or Deadline(ANSWERS_S)
    silent: dict[str, str] = {}

    def has_answered() -> bool:
        silent.clear()
        silent.update(_silent(control_plane.cloud))
        return not silent

    if not poll(has_answered, deadline, every_s=1.0):
        name, problem = next(iter(silent.items()))
        raise HostError(
            f"the control plane is not up after {deadline.passed_s:.0f} s: {name}: {problem}",
            remedy=f"see {control_plane.machine.folder}, or boot that image by itself: bootproof boot",
        )


def _silent(cloud: Connection) -> Iterator[tuple[str, str]]:
    """Each service that does not answer, with the problem; those after it are not asked."""
    for name, question in _QUESTIONS.items():
        try:
            question(cloud)
        except Exception as error:  # of openstacksdk, keystoneauth1 or requests, which have no common class
            yield name, f"{type(error).__name__}: {error}"
            return


_QUESTIONS: dict[str, Callable[[Any], object]] = {
    "identity": lambda cloud: list(cloud.identity.services()),
    "placement": lambda cloud: list(cloud.placement.resource_providers()),
    "image": lambda cloud: list(cloud.image.images()),
    "compute": lambda cloud: list(cloud.compute.services()),
    "network": lambda cloud: list(cloud.network.networks()),
}
"""A question for each service, whose answer needs the service's database, too."""
