"""Connections and listening sockets: how they come to be and how they end."""
