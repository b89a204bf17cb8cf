"""What is true on the driver and on each worker: records, comparison, renderings."""
