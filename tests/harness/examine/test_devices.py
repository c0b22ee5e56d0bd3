"""The place of a device does not depend on the order in which a kernel finds devices."""

from __future__ import annotations

import pytest

from harness.examine.devices import place_of

VIRTIO = "../../devices/pci0000:00/0000:00:05.0"


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("../../devices/pci0000:00/0000:00:03.0/virtio0/net/enp0s3", "pci0000:00/0000:00:03.0"),
        ("../../devices/pci0000:00/0000:00:1c.0/0000:02:00.1/net/net0", "pci0000:00/0000:00:1c.0/0000:02:00.1"),
        ("../../devices/virtual/net/br-int", "br-int"),
        (f"{VIRTIO}/virtio1/host0/target0:0:0/0:0:0:0/block/sda", "pci0000:00/0000:00:05.0/target0:0/0:0:0"),
        (f"{VIRTIO}/virtio4/host3/target3:0:0/3:0:0:0/block/sdd/sdd2", "pci0000:00/0000:00:05.0/target0:0/0:0:0/2"),
        (f"{VIRTIO}/virtio1/block/vda", "pci0000:00/0000:00:05.0"),
        (f"{VIRTIO}/nvme/nvme0/nvme0n1", "pci0000:00/0000:00:05.0/n1"),
        (f"{VIRTIO}/nvme/nvme1/nvme1n1/nvme1n1p2", "pci0000:00/0000:00:05.0/n1/2"),
        ("../../devices/virtual/block/loop0", ""),
    ],
)
def test_the_place_has_neither_names_nor_numbers_of_the_order(target: str, place: str) -> None:
    assert place_of(target) == place
