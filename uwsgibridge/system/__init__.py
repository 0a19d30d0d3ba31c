"""What a process uses of its operating system: signals, users, files, CPUs, systemd."""
