"""Renders a site of lighttpd 1.4, which speaks uwsgi by mod_scgi.

Source: https://redmine.lighttpd.net/projects/lighttpd/wiki/Mod_scgi. docs/frontends.md has what was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uwsgibridge.config.address import TcpAddress, UnixAddress

if TYPE_CHECKING:
    from uwsgibridge.frontend.others import OtherSite


def render_lighttpd(site: OtherSite) -> str:
    """Render a site, for ``conf-available``."""
    modules = ["mod_scgi"]
    if site.static:
        modules += ["mod_access", "mod_alias"]
    if site.tls is not None:
        modules += ["mod_openssl", "mod_redirect", "mod_setenv"]
    lines = [
        "# A site in front of uwsgibridge, for lighttpd 1.4.64 and later:",
        f"#     uwsgibridge frontend lighttpd ... > /etc/lighttpd/conf-available/50-{site.name}.conf",
        f"#     lighttpd-enable-mod {site.name} && lighttpd -tt -f /etc/lighttpd/lighttpd.conf",
        *(
            ["#     apt-get install lighttpd-mod-openssl"] if site.tls is not None else []
        ),
        "#",
        "# What works: requests, uploads with and without a length, and answers, whole or piece by piece as they come.",
        "# What doesn't, and no directive helps:",
        "# - WebSockets: lighttpd passes the answer 101 on without its Upgrade header. The bridge answers 501 by itself, and",
        "#   logs `refused` with the reason websocket_frontend. It knows lighttpd by server.tag: leave that as it is.",
        "#   Take Nginx for WebSockets.",
        "# - A short answer without Content-Length that breaks off looks complete to the client. Have the application",
        "#   send a Content-Length.",
        "# - X-Accel-Redirect, and so --offload, is Nginx's.",
        "# - Security headers only where the application sends none: have the application send them.",
        "# - QUERY_STRING is normalised (%41 becomes A), and a Range of a whole answer is answered by lighttpd itself.",
        "# - The time that a request waits before the bridge accepts it is not known (--max-queue-seconds).",
        "",
        f"server.modules += ({', '.join(map(_quoted, modules))})",
        "",
        *(f'$SERVER["socket"] == {_quoted(_socket(it))} {{ }}' for it in site.listen if it != "80"),
    ]  # fmt: skip
    if site.tls is not None:
        lines += [
            line
            for address in site.tls.listen
            for line in (
                f'$SERVER["socket"] == {_quoted(_socket(address))} {{',
                '    ssl.engine = "enable"',
                f"    ssl.pemfile = {_quoted(site.tls.file)}",
                f"    ssl.privkey = {_quoted(site.tls.key)}",
                "}",
            )
        ]
    lines.append("")
    inner = _serving(site)
    if site.tls is not None:
        inner = [
            '$HTTP["scheme"] == "http" {',
            "    # Method and body stay as they are.",
            '    url.redirect = ("" => "https://${url.authority}${url.path}${qsa}")',
            "    url.redirect-code = 308",
            "}",
            'else $HTTP["scheme"] == "https" {',
            '    setenv.set-response-header = ("Strict-Transport-Security" => "max-age=31536000")',
            *(f"    {line}" if line else "" for line in inner),
            "}",
        ]
    if site.server_names:
        hosts = "|".join(map(_pattern, site.server_names))
        inner = [
            f'$HTTP["host"] =~ "^(?:{hosts})(?::[0-9]+)?$" {{',
            *(f"    {line}" if line else "" for line in inner),
            "}",
        ]
    return "\n".join([*lines, *inner]).rstrip("\n") + "\n"


def _serving(site: OtherSite) -> list[str]:
    kilobytes = -(-site.client_max_body_bytes // 1024)
    lines = [
        "# In KiB; over it, 413. 0 is no limit.",
        f"server.max-request-size = {kilobytes}",
        "# A stream arrives piece by piece. Without this line lighttpd collects each answer, and one that breaks off looks complete.",
        "server.stream-response-body = 2",
    ]
    if site.static:
        pairs = ", ".join(f"{_quoted(it.url)} => {_quoted(it.directory)}" for it in site.static)
        paths = "|".join(_pattern(it.url) for it in site.static)
        return [
            *lines,
            "# lighttpd sends these files. What is no file is 404; Nginx's configuration asks the application then.",
            f"alias.url += ({pairs})",
            f'$HTTP["url"] =~ "^(?:{paths})" {{',
            '    $HTTP["url"] =~ "/[.]" { url.access-deny = ("") }',
            "}",
            "else {",
            *(f"    {line}" for line in _backends(site)),
            "}",
        ]
    return [*lines, *_backends(site)]


def _backends(site: OtherSite) -> list[str]:
    common = [
        '"check-local" => "disable"',
        # Else /shop has the SCRIPT_NAME /shop and no PATH_INFO.
        '"fix-root-scriptname" => "enable"',
        f'"connect-timeout" => {site.connect_timeout_seconds}',
        f'"read-timeout" => {site.read_timeout_seconds}',
        f'"write-timeout" => {site.read_timeout_seconds}',
    ]
    hosts = []
    for address in site.addresses:
        if isinstance(address, UnixAddress):
            where = [f'"socket" => {_quoted(address.path)}']
        else:
            assert isinstance(address, TcpAddress)
            where = [f'"host" => {_quoted(address.host)}', f'"port" => {address.port}']
        hosts.append(f"    ({', '.join([*where, *common])})")
    return [
        'scgi.protocol = "uwsgi"',
        *(['scgi.balance = "least-connection"'] if len(hosts) > 1 else []),
        'scgi.server = ("/" => (',
        *(f"{host}," for host in hosts[:-1]),
        hosts[-1],
        "))",
    ]


def _socket(listen: str) -> str:
    return listen.removeprefix("*") if ":" in listen else f":{listen}"


def _pattern(text: str) -> str:
    """Make a regular expression of a host name, or of a path that has letters, digits and . _ ~ - alone."""
    return text.replace(".", "[.]").replace("*", ".+")


def _quoted(text: str) -> str:
    return f'"{text}"'
