"""Makes the pictures in docs/images from real runs of the clients: `python -m tests.screenshots`."""
