"""What the system does, one verb each: schedule, dispatch, run and close, sweep. Stores are handed in."""
