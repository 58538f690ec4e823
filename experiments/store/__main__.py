"""`python -m experiments.store`"""

import sys

from experiments.store.command import main

sys.exit(main())
