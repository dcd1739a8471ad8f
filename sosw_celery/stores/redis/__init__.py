"""Everything that is kept in Redis: it can be lost, and is built anew."""
