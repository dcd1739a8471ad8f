"""What is changed inside one client of botocore: the only places of that package without a public door.

Where a release of botocore has moved a place, the client works on without the change, and a test of this folder fails.
"""
