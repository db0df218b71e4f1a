"""Pictures: files, colour, resizing, tiles."""
