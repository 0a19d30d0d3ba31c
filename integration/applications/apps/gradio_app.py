"""A Gradio demo, mounted in FastAPI as its documentation has it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gradio
from fastapi import FastAPI


def greet(name: str) -> str:
    return f"Hello {name}!"


def count(to: float) -> Iterator[str]:
    for step in range(int(to)):
        yield f"step {step + 1}"
        time.sleep(0.02)


with gradio.Blocks() as demo:
    name = gradio.Textbox(label="Name")
    greeting = gradio.Textbox(label="Greeting")
    gradio.Button("Greet").click(greet, name, greeting, api_name="greet")
    gradio.Button("At once").click(greet, name, greeting, api_name="greet_at_once", queue=False)
    steps = gradio.Number(label="Steps")
    gradio.Button("Count").click(count, steps, greeting, api_name="count")

app = gradio.mount_gradio_app(FastAPI(), demo, path="/")
