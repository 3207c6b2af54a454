"""`ming plugins`: what came from where."""

from __future__ import annotations

from ming_core.cli.common import JsonOption
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json, show
from ming_core.plugins import Plugin, get_plugins, version_of
from ming_core.text import one_line


def plugins(as_json: JsonOption = False) -> None:
    """List plugins, what each adds, and which are left out.

    MING_DISABLE_PLUGINS=NAME,NAME switches plugins off. Example: ming plugins --json
    """
    found = get_plugins()
    if as_json:
        loaded = [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": version_of(plugin.distribution),
                "hooks": plugin.hooks,
                "adds": _added(plugin),
            }
            for plugin in found.loaded
        ]
        failed = [vars(failure) for failure in found.failures]
        blocked = [plugin.name for plugin in found.blocked]
        print_json({"plugins": loaded, "failed": failed, "blocked": blocked})
        return
    rows = [("plugin", "package", "version", "adds")]
    for plugin in found.loaded:
        adds = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in _added(plugin).items())
        version = version_of(plugin.distribution)
        rows.append((plugin.name, plugin.distribution, version, adds or "nothing yet"))
    print_table(rows)
    for failure in found.failures:
        show(f"left out: {one_line(str(failure))}")
    for plugin in found.blocked:
        show(f"switched off: plugin {plugin.name!r} of {plugin.distribution}")


def _added(plugin: Plugin) -> dict[str, list[str]]:
    registries = get_plugins().registries.items()
    added = {
        kind: sorted({entry.name for entry in registry if entry.plugin == plugin.distribution})
        for kind, registry in registries
    }
    owners = get_plugins().commands.items()
    added["commands"] = sorted(name for name, owner in owners if owner == plugin.distribution)
    return {kind: names for kind, names in added.items() if names}
