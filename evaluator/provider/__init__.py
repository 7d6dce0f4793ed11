"""The model package: what it may be asked, loading its model, what its model may be asked about itself."""
