"""Jobs: batches of either task that are worked on whatever is killed, and asked about by id.

The work is durable in the same DBOS database as deliveries; payloads lie in the spool directory.
"""
