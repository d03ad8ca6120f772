"""Deliveries: received instances become reports that reach every destination, kills or not.

The work is durable in DBOS (an SQLite file, or PostgreSQL for several replicas); what is sent
lies in a spool directory. See `docs/decisions` for why, `docs/operations.md` for how.
"""
