"""The presence of the site, in a module of its own: ``asgi.py`` serves it, and the views ask it."""

import os

from stillhere.embed import Presence
from stillhere.embed.django import django_session

presence = Presence(
    store=os.environ.get("PRESENCE_STORE", "sqlite:///presence.db"),
    authenticate=django_session(watch="*", info=lambda user: {"name": user.get_username().title()}),
)
