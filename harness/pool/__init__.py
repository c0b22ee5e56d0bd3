"""``bootproof run --hosts``: one run on many hosts that have SSH and Bootproof, and nothing else.

hosts              the file of hosts, and how ssh(1) is called for one
frames             messages, files and heartbeats over the two pipes of an ssh
files              the archives that a host gets and gives back
on_host            what runs on a host: ``bootproof pool-host``
attempt            one shard on one host, as GNU parallel starts it
run, table         all shards on all hosts; what a person sees of it
survey             the state of each host, for ``bootproof doctor --hosts``
"""
