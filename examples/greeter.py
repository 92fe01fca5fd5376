"""A service with one handler: it takes a name and gives a greeting."""

from perdure.sdk import Context, Service

greeter = Service("Greeter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"
