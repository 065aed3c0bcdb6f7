"""One file a load profile, with its settings beside it: `locust --config loadtests/profiles/saturday_noon.conf`."""
