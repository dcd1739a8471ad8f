"""A service of HTTP that submits jobs, and the worker of its labourer."""
