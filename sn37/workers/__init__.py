"""Processes of their own for hostile work: isolation, sandbox; executors on this machine and on Ray."""
