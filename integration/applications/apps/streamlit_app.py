"""Streamlit in its ASGI form."""

from __future__ import annotations

from pathlib import Path

import streamlit

app = streamlit.App(Path(__file__).with_name("streamlit_script.py"))
