# Two commands for newcomers: `make verify` and `make test`. `make help` lists the rest.
IMAGE ?= nova-kvm
JOBS ?= 8

PYTHON ?= python3
VENV := .venv
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Debian package names; what each is for is in the README.
PACKAGES := python3-venv git qemu-system-x86 qemu-utils ipxe-qemu ipxe ovmf mmdebstrap uidmap squashfs-tools dnsmasq-base \
	iproute2 openssh-client e2fsprogs fdisk util-linux zstd debian-archive-keyring grub-common grub-pc-bin \
	grub-efi-amd64-bin mtools nftables swtpm
# What only the harness's own tests need.
TEST_PACKAGES := chromium openssh-server rclone tcpdump

.PHONY: help setup test verify faults bench clean
help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(VENV)/installed ## install what is missing: Debian packages (with sudo), Python packages in .venv
	@$(call install,$(PACKAGES))

define install
missing=$$(for name in $(1); do \
	dpkg-query -W -f '$${db:Status-Status}\n' $$name 2>/dev/null | grep -qx installed || printf '%s ' $$name; done); \
if [ -n "$$missing" ]; then echo "installing:" $$missing; $(MAKE) --no-print-directory packages NAMES="$$missing"; fi
endef

.PHONY: packages
packages:
	$(SUDO) apt-get update -q
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(NAMES)

$(VENV)/installed: pyproject.toml
	@$(call install,python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: setup ## lint, types, the harness's quick tests, one smoke boot of base
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -q
	$(VENV)/bin/pytest -q tests/system/test_smoke.py

verify: setup ## build IMAGE, boot it, examine it, judge it
	$(VENV)/bin/pytest -n $(JOBS) --image $(IMAGE)

faults: setup ## the harness's own tests that boot: lifecycle, detectors, planted faults
	@$(call install,$(TEST_PACKAGES))
	$(VENV)/bin/pytest tests/system

bench: setup ## figures, as ratios within one run, alone on this host (ROWS="lab start" for some; clones installs labgrid aside, http nginx)
	$(VENV)/bin/python -m tests.bench $(ROWS)

clean: ## forget runs and the virtual environment; the store stays
	rm -rf runs $(VENV)
