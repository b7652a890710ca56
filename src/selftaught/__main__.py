"""``python -m selftaught`` is ``selftaught``."""

import sys

from selftaught.cli import main

sys.exit(main())
