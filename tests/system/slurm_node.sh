#!/bin/bash
# A node of a cluster, in namespaces of its own: slurm_node.sh FOLDER NUMBER.
set -eu
hostname "node$2"
ip link set lo up
until ip address add "10.78.0.1$2/24" dev eth0 2>/dev/null; do sleep 0.05; done
ip link set eth0 up
exec slurmd -D -N "node$2" -f "$1/slurm.conf"
