# The web chat on the CPU, as an ordinary user. What it builds is kept in the volume /app/vectorstore.
#   docker build -t biobridge-rag .
#   docker run --rm -p 7860:7860 -v biobridge-rag:/app/vectorstore biobridge-rag
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1

# What RDKit's drawing code links to.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 libxext6 libxrender1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app

# The dependencies change seldom: a layer of their own. torch comes as its CPU build, from download.pytorch.org/whl/cpu.
COPY pyproject.toml constraints.txt ./
RUN pip install -c constraints.txt uv \
    && uv pip install --system --torch-backend cpu -c constraints.txt -r pyproject.toml

COPY README.md LICENSE NOTICE app.py ./
COPY prompts prompts
COPY biobridge_rag biobridge_rag
RUN uv pip install --system --no-deps -e .

COPY vectorstore/README.md vectorstore/README.md
RUN useradd --create-home --uid 10001 biobridge \
    && chown -R biobridge:biobridge vectorstore
USER biobridge

ENV BIOBRIDGE_HOST=0.0.0.0 \
    BIOBRIDGE_PORT=7860
VOLUME /app/vectorstore
EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['BIOBRIDGE_PORT'] + '/', timeout=4)"]

CMD ["python", "app.py"]
