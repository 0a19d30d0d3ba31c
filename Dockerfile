# Two images: `bridge` serves applications over the uwsgi protocol, `nginx` stands in front of it.
# Both run without root, without capabilities and on a read-only filesystem, with a tmpfs at /tmp.
ARG PYTHON_IMAGE=python:3.13-slim
ARG NGINX_IMAGE=nginx:stable


FROM ${PYTHON_IMAGE} AS build
# uvloop is what `--loop auto` prefers; demo brings the frameworks of the example applications.
ARG EXTRAS=uvloop,demo
# What your application needs besides: the lines of a requirements.txt.
ARG REQUIREMENTS=
# Packages of Debian that something is compiled with, in this stage alone: with "gcc libc6-dev", the bridge has
# its accelerator.
ARG BUILD_PACKAGES=
RUN if [ -n "${BUILD_PACKAGES}" ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends ${BUILD_PACKAGES} \
        && rm -rf /var/lib/apt/lists/*; \
    fi
WORKDIR /build
RUN python3 -m venv --without-pip /opt/uwsgibridge
# First without the code: what it depends on is installed again only when that has changed.
COPY pyproject.toml build_fast.py README.md LICENSE ./
COPY uwsgibridge/_version.py uwsgibridge/
RUN --mount=type=cache,target=/root/.cache/pip \
    printf '%s\n' "${REQUIREMENTS}" > requirements.txt \
    && python3 -m pip --python /opt/uwsgibridge/bin/python install \
        ".[${EXTRAS}]" --requirement requirements.txt
COPY uwsgibridge uwsgibridge
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/uwsgibridge/bin/python install --no-deps --force-reinstall .


FROM ${NGINX_IMAGE} AS nginx
# `upstream` reaches the bridge over TCP, `upstream_unix` over a socket in a shared directory.
ARG UPSTREAM=upstream
USER root
COPY nginx/nginx.conf nginx/uwsgibridge_params /etc/nginx/
COPY nginx/conf.d /etc/nginx/conf.d
COPY nginx/uwsgibridge /etc/nginx/uwsgibridge
COPY nginx/uwsgibridge/${UPSTREAM}.conf /etc/nginx/uwsgibridge/upstream.conf
RUN rm -f /etc/nginx/conf.d/default.conf \
    && mkdir -p /srv/static \
    && install -d -o 10001 -g 10001 -m 0750 /run/uwsgibridge
# A user of its own in the bridge's group: a socket of mode 0660 lets it connect, and no more.
USER 10002:10001
EXPOSE 8080 8443
# Running requests may end.
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8081/"]
ENTRYPOINT ["nginx"]
CMD ["-e", "stderr", "-g", "daemon off;"]


FROM ${PYTHON_IMAGE} AS bridge
# A name for the user: some libraries look their own up. The directory is for a unix socket; a volume
# that is mounted there for the first time takes its owner and mode over.
RUN echo 'uwsgibridge:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'uwsgibridge:x:10001:' >> /etc/group \
    && install -d -o 10001 -g 10001 -m 0750 /run/uwsgibridge
COPY --from=build /opt/uwsgibridge /opt/uwsgibridge
ENV PATH=/opt/uwsgibridge/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    UWSGIBRIDGE_BIND=0.0.0.0:3031
# Applications are imported from here.
WORKDIR /app
USER 10001:10001
EXPOSE 3031
STOPSIGNAL SIGTERM
# Answered while every thread is busy. The first checks may fail while an application is loaded.
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 \
    CMD ["uwsgibridge", "ping", "--quiet", "127.0.0.1:3031"]
ENTRYPOINT ["uwsgibridge"]
CMD ["serve"]
