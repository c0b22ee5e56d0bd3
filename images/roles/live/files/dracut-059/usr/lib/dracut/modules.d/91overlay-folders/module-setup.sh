#!/bin/bash
# dracut module: creates the upper folders of the sysroot.mount that dracut 059 writes; dracut 059 does not.

check() {
    return 255 # only if a configuration names it
}

depends() {
    echo dmsquash-live
}

install() {
    inst_hook pre-mount 10 "${moddir:?}/make-folders.sh"
}
