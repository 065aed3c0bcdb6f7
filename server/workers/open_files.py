"""Room for as many connections as the settings allow: every one is an open file, and systems begin with few."""

import resource

# Engines, links to other workers, logs, and what the libraries open for themselves.
_BESIDE_CONNECTIONS = 512


def allow_connections(connections_max: int) -> int:
    """Raise this process's soft limit of open files as far as needed; return how many connections fit in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + _BESIDE_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections_max if soft == resource.RLIM_INFINITY else min(connections_max, soft - _BESIDE_CONNECTIONS)
