"""A Django site whose users see each other: log in with a name, and watch who is here.

uvicorn examples.django_site.asgi:application

Open http://127.0.0.1:8000 in two browsers. Django's session cookie is the log-in of the presence too; the views ask
``presence.sync``, and the page has one WebSocket.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_site.settings")

from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.core.management import call_command  # type: ignore[import-untyped]

django_application = get_asgi_application()  # sets Django up: what follows may import models
call_command("migrate", verbosity=0)  # an example makes its own tables; your deployment does that

from examples.django_site.presence import presence  # noqa: E402 - see above
from stillhere.embed.django import with_presence  # noqa: E402

application = with_presence(django_application, presence)
