"""What is there without a wheelhouse, and what loading one would meet."""
