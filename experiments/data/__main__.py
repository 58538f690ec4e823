"""`python -m experiments.data`"""

import sys

from experiments.data.command import main

sys.exit(main())
