# The official image of a PostgreSQL with refold in it:
#   docker build --build-arg PG=17 -t postgres-refold .
ARG PG=17

FROM postgres:${PG}-bookworm AS package
ARG PG
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates curl dpkg-dev \
      libclang-dev postgresql-plpython3-${PG} postgresql-server-dev-${PG}
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain 1.95
COPY . /refold
WORKDIR /refold
RUN PATH="/root/.cargo/bin:$PATH" cargo xtask --pg-config /usr/lib/postgresql/${PG}/bin/pg_config package

FROM postgres:${PG}-bookworm
COPY --from=package /refold/target/packages/*.deb /tmp/
RUN apt-get update && apt-get install -y --no-install-recommends /tmp/*.deb && rm -rf /tmp/*.deb /var/lib/apt/lists/*
