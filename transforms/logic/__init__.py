"""The rules, as plain Python: no Beam, no I/O, no clock."""
