"""The decision core, the hot store, the journal and what joins them; knows nothing of wires or processes."""
