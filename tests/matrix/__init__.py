"""Every kind of Spark session, version of PySpark and isolation, each proven in an environment of its own."""
