"""The other services of AWS, and whoever is told of deaths."""
