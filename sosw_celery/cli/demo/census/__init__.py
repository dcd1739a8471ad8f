"""What the demo's labourers do: they read the source of the Python packages that are installed on this machine.

- `code_census` counts lines, functions, classes and more; written as a class.
- `import_census` counts which modules are imported most; written as a function.
- `jobs` builds a job for each, and computes the same totals with a plain loop, to check the outcome.
"""
