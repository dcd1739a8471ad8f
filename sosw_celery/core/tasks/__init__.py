"""The life of a task, as values. Pure."""
