"""For FastAPI::

@app.get("/online/{user}")
async def online(user: str, presence: CurrentPresence) -> bool:
    return await presence.status(user) == "online"
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from stillhere.embed import Presence, get_presence

CurrentPresence = Annotated[Presence, Depends(get_presence)]
"""The presence of the application, as a parameter of an endpoint. The application needs ``presence.lifespan``."""
