"""The public competitions and their schedule, as TOML, and the reader of such files."""
