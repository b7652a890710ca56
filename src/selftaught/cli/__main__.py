"""``python -m selftaught.cli`` is ``selftaught``."""

import sys

from selftaught.cli import main

sys.exit(main())
