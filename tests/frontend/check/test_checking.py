"""What the check makes of files around a configuration: includes, dumps, sockets, and what we print ourselves."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

import pytest

from uwsgibridge.frontend.check.checking import Result, check
from uwsgibridge.frontend.check.finding import Bridge
from uwsgibridge.frontend.config import render_compose_files, render_site, render_site_files
from uwsgibridge.frontend.options import RateLimit, Site, StaticDirectory, StatusLocation, Tls

SITE = "server { listen 80; location / { include uwsgi_params; uwsgi_pass unix:/run/a.sock; } }"
DEPLOYED = Path(__file__).parents[3] / "nginx"


def rules(result: Result) -> list[str]:
    return [it.rule for it in result.findings]


@pytest.mark.parametrize("version", [None, (1, 30, 4)], ids=str)
def test_what_we_print_passes(version: tuple[int, int, int] | None) -> None:
    on_off = (False, True)
    for tls, http2, rate, gzip, status in itertools.product(on_off, repeat=5):
        site = Site(
            upstreams=("127.0.0.1:3031", "unix:/run/my app.sock"),
            offload=(StaticDirectory("/protected", "/srv/files"),),
            static=(StaticDirectory("/static", '/srv/"q" \\ {#}'),),
            tls=Tls(enabled=tls, http2=http2, client_ca="/ca.pem" if tls else None),
            rate_limit=RateLimit(enabled=rate),
            gzip=gzip,
            status=StatusLocation() if status else None,
            nginx_version=version,
        )
        bridge = Bridge.of({"offload": ["/protected=/srv/files"]}, frozenset())
        text = render_site(site)
        result = check("site.conf", text, bridge=bridge, version=version)
        assert result.findings == ()
        assert result.ways == text.count("uwsgi_pass ")


def test_a_name_that_we_print_is_looked_up_again() -> None:
    text = render_site(Site(upstreams=("bridge:3031",), resolver="127.0.0.11"))
    assert check("site.conf", text).findings == ()


def test_a_set_of_files_that_we_write_passes(tmp_path: Path) -> None:
    for path, text in render_site_files(Site(tls=Tls(enabled=True))).items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (tmp_path / "nginx.conf").write_text("events {} http { include conf.d/*.conf; }")
    result = check(str(tmp_path / "nginx.conf"))
    assert (result.findings, result.ways) == ((), 1)
    assert len(result.files) > 5


def test_what_compose_deploys_passes() -> None:
    assert render_compose_files()
    result = check(str(DEPLOYED / "nginx.conf"), version=(1, 31, 3))
    assert (result.findings, result.ways) == ((), 2)


def test_an_include_is_looked_for_below_the_nginx_conf_above(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("events {}")
    (tmp_path / "sites-enabled").mkdir()
    (tmp_path / "uwsgi_params").write_text("uwsgi_param HTTP_HOST $host;")
    site = tmp_path / "sites-enabled/a"
    site.write_text(SITE)
    result = check(str(site))
    assert str(tmp_path / "uwsgi_params") in result.files
    assert "host-without-port" in rules(result)
    assert "param-missing" in rules(result)


def test_files_of_etc_nginx_are_those_of_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.conf").write_text(SITE)
    main = tmp_path / "nginx.conf"
    main.write_text("events {} http { include /etc/nginx/conf.d/*.conf; }")
    assert check(str(main)).ways == 1
    main.write_text("events {} http { include /etc/nginx/conf.d/a.conf; }")
    assert check(str(main)).ways == 1


def test_a_directory_is_no_file_of_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "conf.d/sub.conf").mkdir(parents=True)
    main = tmp_path / "nginx.conf"
    main.write_text("events {} http { include conf.d/*; " + SITE + " }")
    assert check(str(main)).findings == ()


def test_includes_in_a_circle_end(tmp_path: Path) -> None:
    main = tmp_path / "a.conf"
    main.write_text("include a.conf;")
    (finding,) = check(str(main)).findings
    assert (finding.rule, finding.line) == ("syntax", 1)
    assert "circle" in finding.reason


def test_many_includes_end(tmp_path: Path) -> None:
    (tmp_path / "b.conf").write_text("")
    main = tmp_path / "a.conf"
    main.write_text("include b.conf;\n" * 2001)
    (finding,) = check(str(main)).findings
    assert "more than 2000 files" in finding.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text("")
    (tmp_path / "x.conf").chmod(0)
    main = tmp_path / "a.conf"
    main.write_text("include x.conf; " + SITE)
    (finding,) = check(str(main)).findings
    assert (finding.rule, "Permission denied" in finding.reason) == ("include-missing", True)


DUMP = f"""# configuration file /etc/nginx/nginx.conf:
events {{}}
http {{
    include /etc/nginx/sites-enabled/*;
}}

# configuration file /etc/nginx/sites-enabled/shop:
# a comment
{SITE.replace("/run/", "/tmp/")}

# configuration file /etc/nginx/uwsgi_params:
uwsgi_param HTTP_HOST $host;
"""


def test_a_dump_of_nginx_has_its_files_in_it() -> None:
    result = check("(standard input)", DUMP)
    assert result.files[0] == "/etc/nginx/nginx.conf"
    places = {(it.rule, it.file, it.line) for it in result.findings}
    assert ("socket-in-tmp", "/etc/nginx/sites-enabled/shop", 2) in places
    assert ("host-without-port", "/etc/nginx/uwsgi_params", 1) in places


def test_a_dump_is_not_mixed_with_files_of_this_machine() -> None:
    result = check("(standard input)", DUMP.replace("include uwsgi_params", f"include {__file__}"))
    (missing,) = [it for it in result.findings if it.rule == "include-missing"]
    assert "is not in what nginx -T has printed" in missing.reason


def test_a_socket_that_is_there_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "s"
    text = SITE.replace("/run/a.sock", str(path))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        path.chmod(0o777)
        assert "socket-world-writable" in rules(check("a.conf", text))
        path.chmod(0o660)
        assert "socket-world-writable" not in rules(check("a.conf", text))


def test_a_finding_in_a_file_that_two_servers_include_is_one(tmp_path: Path) -> None:
    (tmp_path / "app.inc").write_text("include uwsgi_params;\nuwsgi_pass unix:/tmp/a.sock;")
    main = tmp_path / "a.conf"
    main.write_text("server { location / { include app.inc; } }\n" * 2)
    (finding,) = check(str(main)).findings
    assert (finding.file, finding.line) == (str(tmp_path / "app.inc"), 2)


@pytest.mark.parametrize(
    ("http", "elsewhere", "write"),
    [
        (
            "uwsgi_cache_path /c keys_zone=pages:10m;",
            "",
            "uwsgi_cache pages;",
        ),
        (
            "proxy_cache_path '/my c' levels=1:2 keys_zone=pages:10m;",
            "",
            (
                'uwsgi_cache pages;  # with uwsgi_cache_path "/my c" levels=1:2 keys_zone=pages:10m; in the place of '
                "proxy_cache_path"
            ),
        ),
        (
            "proxy_cache_path /c/ keys_zone=pages:10m;",
            "location /b { proxy_cache pages; proxy_pass http://127.0.0.1:1; }",
            "uwsgi_cache pages_uwsgi;  # with uwsgi_cache_path /c_uwsgi keys_zone=pages_uwsgi:10m; beside proxy_cache_path",
        ),
        (
            "proxy_cache_path /c keys_zone=others:10m;",
            "",
            "uwsgi_cache pages;  # with uwsgi_cache_path ... keys_zone=pages:10m; in http",
        ),
    ],
)
def test_a_cache_of_proxy_pass_gets_a_zone_that_uwsgi_cache_may_use(
    http: str, elsewhere: str, write: str
) -> None:
    # nginx does not start where both name one zone: "already declared for a different use".
    location = "location / { include uwsgi_params; uwsgi_pass unix:/run/a.sock; proxy_cache pages; proxy_cache_lock on; }"
    result = check(
        "nginx.conf", f"events {{}} http {{ {http} server {{ {location} {elsewhere} }} }}"
    )
    found = [it.write for it in result.findings if it.rule == "other-protocol"]
    assert found == [write, "uwsgi_cache_lock on;"]
