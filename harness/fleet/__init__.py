"""Says from files which hosts of a fleet an image will not drive: ``bootproof fits``.

    drivers = read_drivers(artifacts)
    device = Device(bus="pci", modalias=pci_modalias(0x8086, 0x10D3, class_=0x0200), is_boot=True)
    predict(drivers, FleetHost(name="a guest", devices=(device,)))

`read_host` makes a host of a file, and `parse_host` of what `bootproof hardware` printed. For a device alone,
``drivers.drivers_of(modalias, in_initrd=True)`` names its drivers.
"""

from harness.fleet.drivers import DriverTree, ImageDrivers
from harness.fleet.host_file import BadHostFile, Device, FleetHost, parse_host, pci_modalias, read_host
from harness.fleet.predict import Predictor, predict
from harness.fleet.prediction import Effect, Prediction
from harness.fleet.read_image import read_drivers
from harness.fleet.report import FleetChange, FleetReport, ModelCount, Reason, compare, judge

__all__ = [
    "BadHostFile",
    "Device",
    "DriverTree",
    "Effect",
    "FleetChange",
    "FleetHost",
    "FleetReport",
    "ImageDrivers",
    "ModelCount",
    "Prediction",
    "Predictor",
    "Reason",
    "compare",
    "judge",
    "parse_host",
    "pci_modalias",
    "predict",
    "read_drivers",
    "read_host",
]
