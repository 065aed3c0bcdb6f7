"""The server of a campaign: what `tillwire serve` runs, with a worker whose time of day can be set wrong.

python -m tests.campaign.server_process SETTINGS_FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from server.commands import serving
from server.observation.logs import configure_logging
from server.secrets import load_secrets
from server.settings import Settings

serving.WORKER_MODULE = "tests.campaign.worker_process"


def main() -> int:
    """Serve until told to stop."""
    settings = Settings.model_validate_json(Path(sys.argv[1]).read_bytes())
    configure_logging(settings.log_level, settings.log_format)
    return serving.run_server(settings, load_secrets(settings))


if __name__ == "__main__":
    sys.exit(main())
