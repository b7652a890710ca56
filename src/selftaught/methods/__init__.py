"""The methods, one paper a file."""

from selftaught.methods.byol import BYOL
from selftaught.methods.mae import MAE
from selftaught.methods.simclr import SimCLR

__all__ = ["BYOL", "MAE", "SimCLR"]
