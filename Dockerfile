# The page and the command line in a container, on the CPU, with the shipped weights. Once built it fetches nothing.
#
#   docker build -t addersr .      # --build-arg TORCH_INDEX=URL, PyTorch's index for CPUs: saves gigabytes of CUDA on x86
#   docker run --rm -p 127.0.0.1:7860:7860 addersr                                   # the page
#   docker run --rm --network none -u "$(id -u):$(id -g)" -v "$PWD:/pictures" addersr \
#       addersr upscale photo.jpg -o larger                                          # the command line

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:${PYTHON}-slim
# torch for CPUs only has an index of its own, which pytorch.org names; the usual one is taken where none is given.
ARG TORCH_INDEX=""
# OpenMP for the kernels, which slim images lack.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
RUN --mount=from=build,source=/wheels,target=/wheels pip install --no-cache-dir /wheels/*.whl
COPY app.py /app/app.py
COPY data/samples /app/data/samples
# The kernels must be there: without them it would run on eager torch, slowly.
RUN python -c "from addersr.ops import unavailable_reason as why; assert why('native') is None, why('native')"

# Any user may run it, such as the one who owns the pictures; that has no home of its own.
ENV HOME=/tmp PYTHONUNBUFFERED=1 GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1
RUN useradd --system --no-create-home addersr && mkdir /pictures && chown addersr /pictures
USER addersr
WORKDIR /pictures
EXPOSE 7860
# Python, because the image has no curl. Only for the page; a command ends before it is asked.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/', timeout=4)"]
# Within the container; who can reach it is for `-p` to say. For others than yourself, give --auth in place of --no-auth.
CMD ["python", "/app/app.py", "--host", "0.0.0.0", "--port", "7860", "--no-auth"]
