# One image for the four processes of the Procfile; docs/deploying.md, "Docker", has how each is started.
FROM python:3.13-slim-trixie

# What draws storyboards and looks at videos, and fonts for what they say.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ffmpeg fonts-noto-core fonts-noto-cjk \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --system --create-home --home-dir /srv/viral --shell /usr/sbin/nologin viral
WORKDIR /srv/viral

# First what changes seldom: the packages, each of the very bytes that requirements.txt names.
COPY requirements.txt .
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

COPY . .
RUN printf '#!/bin/sh\nexec python -m cli.main "$@"\n' > /usr/local/bin/viral && chmod 755 /usr/local/bin/viral \
 && mkdir media && chown viral:viral . media

ARG RELEASE=
ENV RELEASE=$RELEASE PYTHONUNBUFFERED=1 PYTHONPATH=/srv/viral FONTS_DIR=/usr/share/fonts HOST=0.0.0.0

USER viral
STOPSIGNAL SIGTERM
EXPOSE 8000

# Of `web` whether it answers; what listens on nothing is well as long as it runs.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
 CMD python -c "import os, urllib.request as u; c = open('/proc/1/cmdline').read().split('\0'); 'web' not in c or u.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8000') + '/healthz', timeout=4)"

ENTRYPOINT ["python", "-m", "cli.main"]
CMD ["web"]
