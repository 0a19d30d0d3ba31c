"""The live view of a supervisor as a web page: its files, and the figures that it fetches."""
