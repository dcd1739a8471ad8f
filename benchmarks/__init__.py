"""What this system costs and how fast it is: `python -m benchmarks` measures all of it, one module each figure."""
