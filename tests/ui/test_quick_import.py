"""The faster import of Gradio."""

import subprocess
import sys

PROGRAM = """
import inspect
before = inspect.getfile
import studio.ui.quick_import
assert inspect.getfile is before
import gradio
with gradio.Blocks() as demo:
    gradio.Slider(); gradio.Gallery(); gradio.Dataframe()
assert demo.get_config_file()["components"]
"""


def test_gradio_works_after_the_quick_import_and_inspect_is_restored():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
