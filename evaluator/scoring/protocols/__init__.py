"""Protocols by name: how texts become units that are compared, and the signature that says so with every score."""
