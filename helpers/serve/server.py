"""transformers' own server around one model of the course: two repairs, and one gate for what clients send.

``transformers serve`` 5.23 answers every request to an Audio Flamingo 3 with status 500: the class is missing from the
table by which the server tells what a model can take, and the features of a clip are never cast to 16-bit weights.
`repair` mends both; ``tests/test_serve.py`` fails on the day on which transformers no longer needs it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from transformers import PreTrainedModel
from transformers.processing_utils import ProcessorMixin

from helpers.captioning.captions import GREEDY
from helpers.serve.requests import BadRequest, check_fields, read_messages

if TYPE_CHECKING:
    from fastapi import FastAPI

OPEN = {("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/health")}
"""All that is answered. The stock server would also load any model of the Hub for anybody who asks."""

LARGEST_BODY = 200_000_000
"""Bytes of a request: ten minutes, as much as AF3 hears, of a stereo CD's WAV are 141 MB in base64."""


def repair(model: PreTrainedModel) -> None:
    """Mend what keeps transformers' server from answering for ``model``; doing it twice changes nothing."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.setdefault(model.config.model_type, type(model).__name__)
    tower = next(module for name, module in model.named_modules() if name.split(".")[-1] == "audio_tower")
    if not getattr(tower, "_casts_features", False):
        tower.register_forward_pre_hook(lambda tower, args: (args[0].to(tower.dtype), *args[1:]))
        tower._casts_features = True


def build_app(model: PreTrainedModel, processor: ProcessorMixin, name: str, allow_paths: bool = False,
              allow_urls: bool = False) -> FastAPI:
    """transformers' server as a web application that knows one model.

    Args:
        model: a plain model (no adapter on it), on its device.
        processor: its processor.
        name: what clients call the model.
        allow_paths, allow_urls: see `read_messages`.
    """
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.server import build_server
    from transformers.cli.serving.utils import GenerationState

    repair(model)

    class OneModel(ModelManager):
        """Knows one model, loaded by the course; the stock one loads what clients name and lists the whole cache."""

        def _load_processor(self, *args, **kwargs):
            return processor

        def _load_model(self, *args, **kwargs):
            return model

        def process_model_name(self, model_id):
            return model_id

        def get_gen_models(self):
            return [{"id": name, "object": "model", "created": int(time.time()), "owned_by": "you"}]

    class CaptionHandler(ChatCompletionHandler):
        """Checks a request before the stock handler sees it; temperature 0 means what `caption` means by greedy."""

        async def handle_request(self, body, request_id):
            check_fields(body)
            return await super().handle_request(body, request_id)

        def get_processor_inputs_from_messages(self, messages, modality):
            return read_messages(messages, allow_paths, allow_urls)

        def _build_generation_config(self, *args, **kwargs):
            config = super()._build_generation_config(*args, **kwargs)
            if not config.do_sample:
                config.update(**GREEDY)
            return config

    manager, state = OneModel(force_model=name), GenerationState()
    # A client's "<|im_end|>" or "<sound>" is text, and neither ends a turn nor stands for a clip.
    handler = CaptionHandler(manager, state, chat_template_kwargs={"sanitize_control_tokens": True})
    app = build_server(manager, handler, None, None, None, None, generation_state=state)

    def refusal(sentence: str, status: int) -> JSONResponse:
        """In the form in which OpenAI's clients look for a message."""
        return JSONResponse({"error": {"message": sentence, "type": "invalid_request_error", "code": status}}, status)

    @app.middleware("http")
    async def gate(request, call_next):
        if (request.method, request.url.path) not in OPEN:
            routes = ", ".join(f"{method} {path}" for method, path in sorted(OPEN))
            return refusal(f"There is no {request.method} {request.url.path} here; this server answers {routes}.", 404)
        size = request.headers.get("content-length")
        if request.method == "POST" and not (size or "").isdigit():
            return refusal("The request does not say how long it is: send a Content-Length header.", 411)
        if size and int(size) > LARGEST_BODY:
            return refusal(f"The request is larger than {LARGEST_BODY // 1_000_000} MB: send a shorter clip, or one in "
                           "MP3, OGG or FLAC.", 413)
        return await call_next(request)

    @app.exception_handler(BadRequest)
    async def bad_request(request, error):
        return refusal(str(error), error.status)

    @app.exception_handler(HTTPException)
    async def refused(request, error):
        return refusal(str(error.detail), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def no_json(request, error):
        return refusal("The body is no JSON object: send one with 'messages', and Content-Type: application/json.", 422)

    return app
