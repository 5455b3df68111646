"""What a user writes and reads: the resource as frozen types, its parser, its conditions, its CRD."""
