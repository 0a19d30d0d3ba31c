"""uWSGI's configuration: reading it, what its values mean, and what each option becomes."""
