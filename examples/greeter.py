"""A service with one handler: it takes a name and gives a greeting.

perdure worker examples/greeter.py --connect 127.0.0.1:5122
perdure call Greeter/greet '"Ann"'
"""

from perdure.sdk import Context, Service

greeter = Service("Greeter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"
