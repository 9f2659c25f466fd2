"""Regular maintenance: deletes expired sessions and frees the device memory of outdated support sets."""

from __future__ import annotations

import asyncio
import logging

from app.inference.support_cache import SupportCache
from app.sessions.errors import StoreUnavailable
from app.sessions.store import SessionStore

logger = logging.getLogger("csrn")


async def keep_up(store: SessionStore, supports: SupportCache, *, every_s: float) -> None:
    """Runs until it is cancelled. Logs a warning when the store is full or cannot be reached."""
    while True:
        try:
            await store.sweep()
            await supports.forget_changed()
            await store.check()
        except StoreUnavailable as error:
            logger.warning("session store: %s", error)
        except Exception:
            logger.exception("upkeep failed")
        await asyncio.sleep(every_s)
