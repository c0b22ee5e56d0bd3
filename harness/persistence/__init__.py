"""Tests of /data: what must survive reboots, upgrades, disk faults and power cuts."""
