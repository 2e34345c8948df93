"""What `register` publishes, and the built-in base models, in older versions of transformers and diffusers.

    python -m tests.older

A process in each environment (environment.py) paints from the same folders (folders.py, paint.py); the table says by
how many grey levels its images differ from those of the pinned versions.
"""
