"""A process that answers git's question for refs for any repository: each has one commit."""

from __future__ import annotations

import hashlib
import sys

from aiohttp import web


async def refs(request: web.Request) -> web.Response:
    """The advertisement of one repository."""
    commit = hashlib.sha1(request.match_info["name"].encode()).hexdigest()
    return advertisement(commit)


def advertisement(commit: str) -> web.Response:
    """That a repository's only branch is at this commit."""
    lines = [f"{commit} HEAD\0symref=HEAD:refs/heads/main\n", f"{commit} refs/heads/main\n"]
    body = b"001e# service=git-upload-pack\n0000"
    body += b"".join(b"%04x" % (len(line) + 4) + line.encode() for line in lines) + b"0000"
    return web.Response(body=body, content_type="application/x-git-upload-pack-advertisement")


def main() -> None:
    """Serve on a port of loopback."""
    application = web.Application()
    application.router.add_get("/{name}.git/info/refs", refs)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
