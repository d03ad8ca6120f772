"""Sections of `make bench`: each measures one thing and knows its own part of the figures' file."""
