#!/bin/sh
mkdir -p /run/overlayfs /run/ovlwork
