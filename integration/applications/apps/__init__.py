"""One small file for each application: as little of our own around it as it needs."""
