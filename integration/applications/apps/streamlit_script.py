"""The page of `streamlit_app`: it runs from top to bottom at each change."""

from __future__ import annotations

import streamlit

name = streamlit.text_input("Name", "world")
streamlit.write(f"Hello {name}!")
