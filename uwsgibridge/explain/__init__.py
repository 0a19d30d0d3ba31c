"""Explains lines of Nginx's logs: what happened, why, and what to change."""
