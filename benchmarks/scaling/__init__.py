"""How the throughput of one worker grows with its threads."""
