"""The packages that the project is built on: their licences, and whether one is known to be vulnerable."""
