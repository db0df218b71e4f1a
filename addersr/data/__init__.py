"""Training data: pictures in folders, the decoded cache, random patches, DIV2K."""
