# Two stages: the binary is built, then it stands alone on a base without a shell.
#   docker build -t onceward .        buildah build --format docker -t onceward .
# `--format docker`: the OCI format has no HEALTHCHECK. Both bases are Debian 12, so that their C libraries fit.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches/rules.rs benches/rules.rs
COPY tests/main.rs tests/main.rs
COPY src src
# Out of target/, which may be mounted for a faster build; the empty folder becomes the volume with its owner.
RUN cargo build --release --locked --bin onceward \
    && mkdir -p /out/data \
    && cp target/release/onceward /out/onceward

FROM ${RUN_IMAGE}
COPY --from=build /out/onceward /usr/local/bin/onceward
COPY --from=build --chown=65532:65532 /out/data /var/lib/onceward
COPY config/container.toml /etc/onceward/onceward.toml
# A number, so that an orchestrator can tell that it is not root.
USER 65532:65532
WORKDIR /var/lib/onceward
VOLUME ["/var/lib/onceward"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/onceward", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/onceward"]
CMD ["serve", "--config", "/etc/onceward/onceward.toml"]
