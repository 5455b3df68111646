"""The objects that a service wants: one pure function per kind, one file each, and their table."""
