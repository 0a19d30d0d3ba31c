"""A GraphQL schema of Strawberry's, with subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import strawberry
from strawberry.asgi import GraphQL
from strawberry.subscriptions import (
    GRAPHQL_SSE_PROTOCOL,
    GRAPHQL_TRANSPORT_WS_PROTOCOL,
    MULTIPART_SUBSCRIPTION_PROTOCOL,
)


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "world") -> str:
        return f"Hello {name}!"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
            await asyncio.sleep(0.02)

    @strawberry.subscription
    async def one(self) -> AsyncIterator[int]:
        """Send one value, and then nothing more for as long as somebody listens."""
        yield 1
        await asyncio.Event().wait()


app: GraphQL[None, None] = GraphQL(
    strawberry.Schema(Query, subscription=Subscription),
    subscription_protocols=(
        GRAPHQL_TRANSPORT_WS_PROTOCOL,
        GRAPHQL_SSE_PROTOCOL,
        MULTIPART_SUBSCRIPTION_PROTOCOL,
    ),
)
