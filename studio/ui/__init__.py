"""The page. Only this package and app.py know Gradio."""

from studio.ui import quick_import  # noqa: F401 - before anything imports Gradio
