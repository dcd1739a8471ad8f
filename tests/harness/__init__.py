"""What tests, fault runs and benchmarks share to start systems and to watch them."""
