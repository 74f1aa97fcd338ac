"""The `sn37` command, one file for each group of sub-commands; heavy libraries are imported inside them."""
