"""The __main__.py of dist/bootproof-hardware. Every Python from 2.7 on can read it and print which one is needed.

The module that it imports needs Python 3.9, and an older one would end with a SyntaxError or an ImportError.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036  # the packed file runs on other hosts, with their Python
    text = "bootproof-hardware: this is Python %d.%d, 3.9 or newer is needed; run python3.9 bootproof-hardware\n"
    sys.stderr.write(text % sys.version_info[:2])
    sys.exit(75)

from harness.host.hardware_scan import main

main()
