"""The Gradio page. Only this package and app.py import Gradio."""

from studio.ui import quick_import  # noqa: F401 - before anything imports Gradio
