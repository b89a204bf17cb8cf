"""Making a wheelhouse importable: on the driver, and on the workers of every kind of session."""
