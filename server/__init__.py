"""The process: settings, composition, listener, dispatch, observation and embedded engines."""
