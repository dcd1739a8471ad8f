# One image for all processes of sosw-celery: workers, beat and the command line.
FROM python:3.12-slim

# What is installed changes less often than celeryconfig.py.
COPY setup.cfg pyproject.toml README.md LICENSE /src/
COPY sosw_celery /src/sosw_celery
COPY workers /src/workers
RUN pip install --no-cache-dir /src && rm -r /src

# A volume that is mounted at these places for the first time takes over their owner.
RUN useradd --create-home sosw \
    && install --directory --owner=sosw --group=sosw /var/lib/sosw/queue /var/lib/sosw/beat
USER sosw

# Celery reads celeryconfig.py from the directory it is started in. Mount one's own over it.
WORKDIR /home/sosw
COPY celeryconfig.py ./

ENV PYTHONUNBUFFERED=1
CMD ["sosw-celery", "--help"]
