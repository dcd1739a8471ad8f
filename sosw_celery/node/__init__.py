"""One worker node around its tasks."""
