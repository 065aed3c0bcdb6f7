"""The side that registers see: connections, sessions, dispatch and the bytes of answers."""
