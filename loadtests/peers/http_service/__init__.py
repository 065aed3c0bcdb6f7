"""The second peer: an asyncio HTTP service on PostgreSQL, as people commonly write one."""
