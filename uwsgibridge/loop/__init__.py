"""The event loop: what is asked of one, for trio and for asyncio."""
