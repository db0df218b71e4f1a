"""Training data: pictures in folders, the decoded cache, random patches, published sets."""
