"""Programs that run beside the application: at the start, when it is ready, and for as long as it serves."""
