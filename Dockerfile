# One image for every process: python -m api (the default), python -m worker, leaderboard migrate.

FROM python:3.13-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /venv
WORKDIR /app

# Before the code, so that a change of code does not install again. Wheels only: nothing is compiled, no compiler needed.
COPY locks/runtime.txt locks/
RUN pip --python /venv/bin/python install --require-hashes --only-binary :all: --requirement locks/runtime.txt

# Editable, because `leaderboard migrate` looks for alembic/ and pyproject.toml beside its package. The build back end
# stands in no lock file: it is pinned here and gone again before the final stage.
COPY pyproject.toml ./
COPY alembic alembic
COPY shared shared
COPY api api
COPY worker worker
COPY cli cli
COPY leaderboard_client leaderboard_client
RUN echo "setuptools==84.2.1 --hash=sha256:ca140b45d5325a9478f880e351484f62fef15f336462e449ca0c03c873d589c2" > /tmp/build.txt \
 && pip --python /venv/bin/python install --require-hashes --only-binary :all: --requirement /tmp/build.txt \
 && pip --python /venv/bin/python install --no-deps --no-build-isolation --editable . \
 && pip --python /venv/bin/python uninstall --yes setuptools \
 # Written now, because a read-only file system can't take bytecode later; without a look at dates, which copying changes.
 && python -m compileall -q --invalidation-mode unchecked-hash alembic shared api worker cli


FROM python:3.13-slim-trixie
# A number that an orchestrator can check not to be root; it owns no file here.
RUN groupadd --gid 10001 leaderboard \
 && useradd --uid 10001 --gid leaderboard --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin leaderboard
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
# In a container 127.0.0.1, the default of both hosts, would answer nobody.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    API_HOST=0.0.0.0 \
    WORKER_HEALTH_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8080 8081
# No HEALTHCHECK: each process has another one, compose.yaml says which.
CMD ["python", "-m", "api"]
