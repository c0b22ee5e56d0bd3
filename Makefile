# Two commands for newcomers: `make verify` and `make test`. `make help` lists the rest.
IMAGE ?= nova-kvm
JOBS ?= 8
OPTIONS ?=
DIST ?= dist

PYTHON ?= python3
VENV := .venv
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Debian packages; the documentation says what each is for.
PACKAGES := python3-venv git qemu-system-x86 qemu-utils ipxe-qemu ipxe ovmf mmdebstrap uidmap squashfs-tools dnsmasq-base \
	iproute2 openssh-client e2fsprogs fdisk util-linux zstd debian-archive-keyring grub-common grub-pc-bin \
	grub-efi-amd64-bin mtools nasm nftables openssl parallel swtpm curl
# Needed only by the harness's own tests.
TEST_PACKAGES := chromium createrepo-c dnf gcc jq libc6-dev munge openssh-server rclone rpm slurm-client slurmctld slurmd tcpdump \
	xorriso zypper

.PHONY: help setup test verify faults bench schemas hardware-scan clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 15

setup: $(VENV)/installed ## install missing Debian packages (with sudo), and Python packages in .venv
	@$(call install,$(PACKAGES))
	@$(quicker_qemu)

define install
missing=$$(for name in $(1); do \
	dpkg-query -W -f '$${db:Status-Status}\n' $$name 2>/dev/null | grep -qx installed || printf '%s ' $$name; done); \
if [ -n "$$missing" ]; then echo "installing:" $$missing; $(MAKE) --no-print-directory packages NAMES="$$missing"; fi
endef

# Debian 12 has QEMU 7.2, its backports a quicker one. Packages of another archive are installed only if asked for.
BACKPORTS := bookworm-backports
define quicker_qemu
if dpkg-query -W -f '$${Version}' qemu-system-x86 2>/dev/null | grep -q '^1:7\.2'; then \
	if [ "$(QEMU_FROM_BACKPORTS)" != 1 ]; then \
		echo "QEMU of $(BACKPORTS) emulates base with two thirds of the CPU time: make setup QEMU_FROM_BACKPORTS=1"; \
	elif ! { $(SUDO) apt-get update -q && apt-cache policy | grep -q '$(BACKPORTS)'; }; then \
		echo "apt does not know $(BACKPORTS): see Backports in the Debian wiki, then run this again"; exit 1; \
	else $(MAKE) --no-print-directory packages NAMES="-t $(BACKPORTS) qemu-system-x86 qemu-utils"; fi; fi
endef

.PHONY: packages
packages:
	$(SUDO) apt-get update -q
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(NAMES)

$(VENV)/installed: pyproject.toml
	@$(call install,python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev,build,openstack,promotion]'
	@touch $@

test: setup ## lint, types, the quick tests, one boot of base
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m tests.shellcheck
	$(VENV)/bin/pytest -q -n 2
	$(VENV)/bin/pytest -q tests/system/test_smoke.py

verify: setup ## build IMAGE, boot it, test it: its verdict
	$(VENV)/bin/pytest -n $(JOBS) --image $(IMAGE)

faults: setup ## the harness's own tests that boot: lifecycle, detectors, planted faults (OPTIONS="--share N" for a tenth)
	@$(call install,$(TEST_PACKAGES))
	$(VENV)/bin/pytest tests/system $(OPTIONS)

bench: setup ## measurements, on an otherwise idle host (ROWS="lab start" selects; clones installs labgrid aside, http nginx)
	$(VENV)/bin/python -m tests.bench $(ROWS)

schemas: setup ## write docs/schemas/ from the classes
	$(VENV)/bin/python -m tests.schemas

# Its two modules need Python 3.9 and no package; hardware_packed.py says so to an older one.
hardware-scan: ## write dist/bootproof-hardware: `bootproof hardware` in one file, for a production host
	rm -rf $(DIST)/hardware-scan
	mkdir -p $(DIST)/hardware-scan/harness/host $(DIST)/hardware-scan/harness/model
	cp harness/host/hardware_scan.py harness/host/guest_scan.py $(DIST)/hardware-scan/harness/host/
	cp harness/model/device_kinds.py $(DIST)/hardware-scan/harness/model/
	cp harness/host/hardware_packed.py $(DIST)/hardware-scan/__main__.py
	$(PYTHON) -m zipapp $(DIST)/hardware-scan --python '/usr/bin/env python3' --compress --output $(DIST)/bootproof-hardware
	rm -r $(DIST)/hardware-scan

clean: ## remove runs, dist and the virtual environment; the store stays
	rm -rf runs dist $(VENV)
