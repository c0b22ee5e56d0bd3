#!/bin/sh
/usr/lib/host-name/take "${NEWROOT:-/sysroot}"
