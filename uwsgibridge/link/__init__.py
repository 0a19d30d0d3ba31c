"""What a supervisor, its templates and their workers share: messages, flights, figures."""
