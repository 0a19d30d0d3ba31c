"""What becomes of a service whose application stalls while more requests come than it can do: see docs/overload.md."""
