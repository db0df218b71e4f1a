"""Pictures through a network: one array, or a folder of files."""
