"""The application: how it is named, loaded and called."""
