#!/bin/bash
# dracut module: the host has its name before the real root starts.

check() {
    return 255 # only if a configuration names it
}

install() {
    inst_simple /usr/lib/host-name/take
    inst_hook pre-pivot 90 "${moddir:?}/take-name.sh"
}
