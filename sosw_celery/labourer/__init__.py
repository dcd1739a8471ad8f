"""One task in one process: the base of labourers, and what stands around a body."""
