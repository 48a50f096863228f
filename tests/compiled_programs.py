"""The programs that XLA has compiled in this process since a test first asked."""

import jax

#: Names of what was compiled, in order.
compiled = []


def _listen(event, *_, **about):
    if event.endswith("backend_compile_duration"):
        compiled.append(about.get("fun_name"))


jax.monitoring.register_event_duration_secs_listener(_listen)
