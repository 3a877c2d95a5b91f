# relay's image; `make image` builds it. Any base will do whose python3 is 3.11 or newer, has venv and knows glibc.
ARG BASE=docker.io/library/python:3.12-slim

# -- libraries: a virtual environment with what the lock names -----------------------------------------------------------
FROM ${BASE} AS libraries

# pip stays outside of what is copied. Wheels only, each with its hash: nothing is compiled, nothing else is installed.
# A company's own package index or authority comes as a secret (make image PIP_CONF=… CA=…) and stays in no layer.
COPY requirements-image.lock /build/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi; \
    python3 -m venv /build/pip \
    && python3 -m venv --without-pip /opt/relay/venv \
    && /build/pip/bin/pip --python /opt/relay/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-input --quiet --require-hashes --no-deps --only-binary :all: --no-compile -r /build/requirements-image.lock \
    && rm -f /opt/relay/venv/bin/activate* /opt/relay/venv/bin/Activate* \
    && packages="$(/opt/relay/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && echo /opt/relay/app > "$packages/relay.pth" \
    && /opt/relay/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" \
    && chmod -R u=rwX,go=rX /opt/relay

# -- app: relay itself, a layer of its own, since the libraries change seldom --------------------------------------------
FROM libraries AS app

COPY k8s/image/healthcheck.py k8s/image/relay.py /app/
COPY LICENSE /app/
COPY sql /app/sql/
COPY relay /app/relay/
RUN mkdir /app/bin \
    && mv /app/relay.py /app/bin/relay \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /app -p /opt/relay/app /app/relay \
    && chmod -R u=rwX,go=rX /app \
    && chmod 0755 /app/bin/relay

# -- the image -----------------------------------------------------------------------------------------------------------
FROM ${BASE}

# Without pip, the base's own packages (relay has a virtual environment), and programs that change who runs them. The
# spool belongs to relay's user, and to group 0 for platforms that draw a user by lot (OpenShift).
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && echo 'relay:x:10001:10001:relay:/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'relay:x:10001:' >> /etc/group \
    && install -d -o 10001 -g 0 -m 0770 /var/spool/relay \
    && install -d -m 0755 /etc/relay

COPY --from=libraries /opt/relay /opt/relay
COPY --from=app /app /opt/relay/app

ENV PATH=/opt/relay/app/bin:/opt/relay/venv/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    RELAY_CONFIG=/etc/relay/relay.toml \
    RELAY_SPOOL_DIR=/var/spool/relay

USER 10001:10001
WORKDIR /var/spool/relay
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/relay/venv/bin/python", "-I", "-S", "/opt/relay/app/healthcheck.py"]
ENTRYPOINT ["relay"]
CMD ["serve"]

# Last, since they differ from build to build.
ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="relay" \
    org.opencontainers.image.description="Customer webhooks in, Shift_JIS CSV uploads to Japanese e-mail vendors out." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}"
