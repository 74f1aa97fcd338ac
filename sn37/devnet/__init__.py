"""The other side, embedded: a chain, a hub, a small world to play in."""
