# The harness on Debian 13, with QEMU from backports. docs/docker.md says how to build and run it.
FROM debian:trixie

# The user's number: that of whoever owns the folder that /runs is mounted from.
ARG UID=1000

WORKDIR /opt/harness
COPY scripts/setup scripts/
RUN scripts/setup --packages --qemu && rm -rf /var/lib/apt/lists/*
COPY . .
RUN scripts/setup --extras=lab,lore,postmortem && .venv/bin/python -m compileall -q harness

RUN useradd --uid $UID --create-home harness && install -d -o harness /cache /runs
ENV PATH=/opt/harness/.venv/bin:$PATH XDG_CACHE_HOME=/cache HARNESS_RUNS=/runs
USER harness
VOLUME /cache /runs
ENTRYPOINT ["harness"]
CMD ["doctor"]
