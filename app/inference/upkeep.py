"""What the service does by itself now and then: deletes what has expired, from store and device."""

from __future__ import annotations

import asyncio
import logging

from app.inference.support_cache import SupportCache
from app.sessions.errors import StoreUnavailable
from app.sessions.store import SessionStore

logger = logging.getLogger("csrn")


async def keep_up(store: SessionStore, supports: SupportCache, *, every_s: float) -> None:
    """Runs until cancelled. What another replica changed or deleted leaves this one's device here too."""
    while True:
        try:
            await store.sweep()
            kept = supports.kept
            newest = await store.revisions(kept)
            supports.forget(key for key, revision in kept.items() if newest.get(key) != revision)
            await store.check()
        except StoreUnavailable as error:
            logger.warning("session store: %s", error)
        except Exception:
            logger.exception("upkeep failed")
        await asyncio.sleep(every_s)
