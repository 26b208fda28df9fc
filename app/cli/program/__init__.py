"""Commands about the program itself: serve, worker, doctor and test."""
