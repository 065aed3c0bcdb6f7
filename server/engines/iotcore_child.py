"""The iotcore broker's own process: it has no way to be stopped inside another. Run by path with its TOML file."""

import logging
import sys


def main() -> None:
    """Serve until killed."""
    # Imported here so that naming this file costs nothing where the wheel is not installed.
    from iotcore.iotcore import IotCoreBroker  # noqa: PLC0415

    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    # It logs every packet as an error.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    IotCoreBroker(config_path=sys.argv[1]).run_forever()


if __name__ == "__main__":
    main()
