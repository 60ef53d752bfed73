"""`make bench`: how fast the service is, against the limits of what it is built on. `python -m bench --help`."""
