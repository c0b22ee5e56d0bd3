#!/bin/bash
# The head of a cluster, in namespaces of its own: a network to which each node has a cable, munged, and slurmctld.
# slurm_head.sh FOLDER NODES; FOLDER has slurm.conf. Nodes end with this script.
set -eu
folder=$1
here=$(dirname "$(readlink -f "$0")")
hostname head
ip link set lo up
ip link add cluster type bridge
ip address add 10.78.0.1/24 dev cluster
ip link set cluster up

(umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
munged --force --foreground --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munge.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge.seed" &
for number in $(seq "$2"); do
    unshare --net --uts --pid --mount --mount-proc --fork --kill-child \
        bash "$here/slurm_node.sh" "$folder" "$number" >"$folder/node$number.out" 2>&1 &
    echo $! >"$folder/node$number.pid"
    until child=$(pgrep --parent $!); do sleep 0.05; done
    ip link add "cable$number" type veth peer name eth0 netns "$child"
    ip link set "cable$number" master cluster up
done
until [ -S "$folder/munge.socket" ]; do sleep 0.05; done
exec slurmctld -D -i -f "$folder/slurm.conf"
