"""Applications that people run today, behind a real Nginx, with what their users do."""
