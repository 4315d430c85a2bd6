"""One file a package: how it is asked to do the same work. Each runs under the Python of that package's own environment."""
