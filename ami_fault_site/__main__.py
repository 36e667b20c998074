"""Let `python -m ami_fault_site` be the command `ami-fault`."""

import sys

from ami_fault_site.cli import main

sys.exit(main())
