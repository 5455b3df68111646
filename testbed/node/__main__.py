"""The command line of the test bed: `python -m testbed.node COMMAND`."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Never

import click

from testbed.node import commands, paths, progress

EXAMPLES = """\b
Examples (at the top of the project, with its Python):
  python -m testbed.node up                     start the cluster, or reuse it
  eval "$(python -m testbed.node env)"          point kubectl at it
  python -m testbed.node status -o json
  python -m testbed.node load executor          put one image in again if it changed
  python -m testbed.node git-add web ../my/app  next commit of 10.244.0.1:3000/web.git
  python -m testbed.node nsenter -- curl http://10.96.0.1
  python -m testbed.node down                   leave only the cache folder

\b
Exit codes: 0 done, 1 it failed (the reason is on stderr), 2 wrong usage,
3 for `status` when no healthy cluster runs.
"""
"""What the help shows at its end; \\b keeps click from filling the lines."""


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One real Kubernetes node on this machine, for make demo and the end-to-end tests.

    Needs root on Linux; no container engine and no registry.
    """


@main.command()
def up() -> None:
    """Start the cluster, or reuse a healthy one."""
    from testbed.node import providers

    cluster = providers.choose()
    cluster.up()


@main.command()
def down() -> None:
    """Stop the cluster; only the cache folder stays."""
    from testbed.node import providers

    providers.choose().down()


@main.command()
def demo() -> None:
    """From nothing to a running service, shown as it happens (`make demo`)."""
    from testbed.node import demo

    demo.run()


@main.command("demo-down")
def demo_down() -> None:
    """Remove what the demo made (`make demo-down`)."""
    from testbed.node import demo

    demo.down()


@main.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(output: str) -> None:
    """Say what runs."""
    from testbed.node import local

    found = local.status()
    if output == "json":
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        click.echo(f"state:      {found.state}")
        if found.pid is not None:
            click.echo(f"process:    {found.pid}")
            click.echo(f"kubeconfig: {found.kubeconfig}")
            click.echo(f"registry:   {paths.REGISTRY}\ngit:        {paths.GIT}")
        for name, digest in found.images.items():
            click.echo(f"image:      {name:14} {digest or '(missing)'}")
    if found.state != "Running":
        sys.exit(3)


@main.command()
def env() -> None:
    """Print the line that points kubectl at the cluster."""
    click.echo(f"export KUBECONFIG={paths.kubeconfig()}")


@main.command()
def build() -> None:
    """Install packages and compile the Go programs into the cache folder; start nothing."""
    from testbed.node import prerequisites, programs

    prerequisites.install()
    for name, file in {**programs.build_all(), "checks": programs.build(programs.CHECKS)}.items():
        click.echo(f"{name}\t{file}")


@main.command()
@click.argument("names", nargs=-1)
def load(names: tuple[str, ...]) -> None:
    """Put images into the registry where they changed: all, or those named."""
    from testbed.node import images

    unknown = [name for name in names if name not in images.RECIPES]
    if unknown:
        raise click.UsageError(f"no image {unknown[0]}; there are {', '.join(images.RECIPES)}")
    for name, digest in images.load_all(names or tuple(images.RECIPES)).items():
        click.echo(f"{name}\t{digest}")


@main.command("test-executor")
def test_executor() -> None:
    """Hold the stand-in for Kaniko to the facts recorded from Kaniko."""
    from testbed.node import images, prerequisites, programs

    prerequisites.install()
    tools = f"{programs.go().parent}:{images.busybox().parent}:{os.environ['PATH']}"
    with progress.step("go test executor") as step:
        text = programs.run_go(["test", "-v", "./..."], programs.EXECUTOR, {"PATH": tools})
        step.skipped = f"{text.count('--- PASS')} passed, {text.count('--- SKIP')} skipped"
        if "--- SKIP" in text:
            raise commands.Failed(f"a test was skipped; nothing of it may be missing here:\n{text}")


@main.command("operator-image")
def operator_image() -> None:
    """Build the operator's image in the cluster from the project's Dockerfile."""
    from testbed.node import operatorimage

    click.echo(operatorimage.build())


@main.command("git-add")
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-m", "--message", default="Update", show_default=True)
@click.option("--branch", default="main", show_default=True)
@click.option("--modules/--no-modules", default=True, help="Fill the module proxy from go.mod.")
def git_add(name: str, folder: Path, message: str, branch: str, modules: bool) -> None:
    """Make FOLDER the next commit of the repository NAME on the git server."""
    from testbed.node import repositories

    if modules and (folder / "go.mod").exists():
        repositories.add_modules(folder)
    click.echo(repositories.add(name, folder, message, branch))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def nsenter(words: tuple[str, ...]) -> Never:
    """Run a command inside the node's namespaces."""
    from testbed.node import node

    arguments = node.inside(list(words))
    os.execvp(arguments[0], arguments)


@main.command()
def footprint() -> None:
    """Print what this machine has of processes, links, mounts, rules and control groups."""
    from testbed.node import footprint as prints

    click.echo(json.dumps(prints.footprint(), indent=2))


@main.command("serve-git", hidden=True)
@click.option("--address", default=paths.BRIDGE_ADDRESS)
def serve_git(address: str) -> None:
    """Serve git; the node runs this."""
    from testbed.node import servers

    servers.serve(servers.GitHandler, paths.GIT_PORT, address)


@main.command("serve-modules", hidden=True)
def serve_modules() -> None:
    """Serve Go modules; the node runs this."""
    from testbed.node import servers

    servers.serve(servers.ModuleHandler, paths.PROXY_PORT)


if __name__ == "__main__":
    try:
        main()
    except commands.Failed as error:
        progress.say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        progress.say("interrupted; `python -m testbed.node down` removes what was started")
        sys.exit(130)
