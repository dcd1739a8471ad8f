"""A job until it is rows. Pure."""
