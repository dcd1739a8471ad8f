"""`sosw-celery demo`: two nested jobs on real servers and real worker processes, one of which is killed on the way.

`command` tells the story, `observe` sees where things stand, `check` proves the outcome, `show` draws, and `config` is
the configuration of the processes.
"""
