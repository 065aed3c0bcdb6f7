"""The processes: a supervisor, its workers, and the links between workers."""
