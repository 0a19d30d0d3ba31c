"""What a process has of its system: files that root reaches safely."""
