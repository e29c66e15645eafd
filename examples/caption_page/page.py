"""A page with a microphone, one more client of ``python -m helpers.serve``: record or upload, read the caption.

    python examples/caption_page/page.py --server http://127.0.0.1:8000/v1

It runs in an environment of its own (``requirements.txt`` beside it) and needs neither PyTorch nor the course.
"""

from __future__ import annotations

import argparse
import base64
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # the page calls nobody but the server

import gradio as gr  # noqa: E402
from openai import APIConnectionError, APIError, APIStatusError, OpenAI  # noqa: E402

QUESTION = "Describe the audio."
"""What the course's models are fine-tuned on."""


def _sentence(text: str) -> gr.Error:
    """For the page; the terminal needs no traceback of it."""
    return gr.Error(text, print_exception=False)


def describe(client: OpenAI, path: str | None, question: str) -> Iterator[str]:
    """The caption of a file, longer with each word that arrives.

    Raises:
        gr.Error: there is no file, nobody answers, or the server refuses; the page shows the sentence.
    """
    if not path:
        raise _sentence("There is no sound yet: record one, or upload a file.")
    data = base64.b64encode(Path(path).read_bytes()).decode()
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": Path(path).suffix[1:] or "wav"}}
    content = [{"type": "text", "text": question or QUESTION}, audio]
    text = ""
    try:
        name = client.models.list().data[0].id
        for chunk in client.chat.completions.create(model=name, messages=[{"role": "user", "content": content}],
                                                    temperature=0, max_tokens=100, stream=True):
            text += chunk.choices[0].delta.content or ""
            yield text
    except APIConnectionError:
        raise _sentence(f"Nobody answers at {client.base_url}: start python -m helpers.serve first.") from None
    except APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        raise _sentence(body.get("message", f"The server answered with status {error.status_code}.")) from None
    except APIError as error:
        raise _sentence(f"The server broke off: {error}") from None


def build_page(client: OpenAI) -> gr.Blocks:
    """One column: the sound, the question, the caption."""
    def answer(path, question):
        yield from describe(client, path, question)

    with gr.Blocks(title="What do you hear?") as page:
        gr.Markdown("# What do you hear?\nRecord a few seconds or upload a WAV, FLAC, OGG or MP3 file.")
        sound = gr.Audio(sources=["microphone", "upload"], type="filepath", label="Sound",
                         buttons=["download"])  # the default also has one that shares on the Hub
        question = gr.Textbox(QUESTION, label="Question")
        button = gr.Button("Describe", variant="primary")
        caption = gr.Textbox(label="Caption", interactive=False, lines=3)
        button.click(answer, [sound, question], caption, api_visibility="private")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000/v1", help="the captioning server's address")
    parser.add_argument("--port", type=int, default=7860, help="of the page (default 7860)")
    options = parser.parse_args()
    client = OpenAI(base_url=options.server, api_key="not-checked", max_retries=0)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # no fonts from elsewhere
    build_page(client).launch(server_name="127.0.0.1", server_port=options.port, share=False, theme=theme,
                              footer_links=["gradio", "settings"])


if __name__ == "__main__":
    main()
