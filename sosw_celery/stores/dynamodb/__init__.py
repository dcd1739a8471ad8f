"""The tables, and the client that all of them share."""
