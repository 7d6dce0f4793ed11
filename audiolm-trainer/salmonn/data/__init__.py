"""Training data: annotations and shards as memory-mapped tables, their order, reading clips ahead."""
