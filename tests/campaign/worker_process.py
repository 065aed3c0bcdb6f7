"""The product's worker with a time of day that the campaign sets."""

from __future__ import annotations

from server.workers.worker import main
from tests.campaign.wrong_clock import WrongClock

if __name__ == "__main__":
    main(WrongClock.of_environment())
