"""The notebook of `marimo_app`, in the form in which marimo writes it."""

import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    return (mo,)


@app.cell
def _(mo):
    mo.md(f"The answer is {6 * 7}.")


if __name__ == "__main__":
    app.run()
