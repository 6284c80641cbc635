# A Hugging Face Space (Docker SDK) or a remote box. Build: docker build -t lora-studio .
# Remote box: docker run -p 7860:7860 -e LORA_STUDIO_PASSWORD=... -e LORA_STUDIO_HOST=studio.example.com lora-studio
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH \
    LORA_STUDIO_HOME=/home/user/data \
    HF_HUB_DISABLE_TELEMETRY=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    PYTHONUNBUFFERED=1 \
    SYSTEM=spaces
# A Docker Space sets SPACE_ID but not SYSTEM, and Gradio knows a Space by both; on a remote box SPACE_ID is missing.

COPY --chown=user requirements.lock .
# A tested torch (a CUDA build), then everything else as it was tested, checked by its hashes.
RUN pip install --no-cache-dir --user torch==2.13.0 && \
    pip install --no-cache-dir --user --no-deps --require-hashes -r requirements.lock
COPY --chown=user . .

EXPOSE 7860
CMD ["python", "app.py"]
