"""The time of a command with labgrid's QEMUDriver and ShellDriver; runs in an environment that has labgrid.

labgrid_shell.py CONFIG    boots the machine of CONFIG, prints "ready"; then runs each line of standard
                           input as a command and prints its seconds
"""

import sys
import time

from labgrid import Environment

target = Environment(sys.argv[1]).get_target("main")
power, shell = target.get_driver("QEMUDriver"), target.get_driver("ShellDriver", activate=False)
power.on()
target.activate(shell)
print("ready", flush=True)
for line in sys.stdin:
    started_s = time.monotonic()
    shell.run_check(line.strip())
    print(time.monotonic() - started_s, flush=True)
power.off()
