"""``uwsgibridge frontend`` as a person calls it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from uwsgibridge.cli.frontend import command
from uwsgibridge.frontend.apache import render_apache
from uwsgibridge.frontend.lighttpd import render_lighttpd
from uwsgibridge.frontend.options import StaticDirectory
from uwsgibridge.frontend.others import Certificate, OtherSite


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_it_prints_a_site_for_each_server() -> None:
    assert run("apache").stdout == render_apache(OtherSite())
    assert run("lighttpd").stdout == render_lighttpd(OtherSite())


def test_every_option_has_its_place() -> None:
    result = run(
        *("apache", "--upstream", "unix:/run/app.sock", "--upstream", "127.0.0.1:3032"),
        *("--listen", "8080", "--server-name", "example.org", "--static", "/static=/srv/www"),
        *(
            "--client-max-body-bytes",
            "1M",
            "--read-timeout-seconds",
            "2m",
            "--name",
            "shop",
            "--tls",
        ),
        *("--tls-certificate", "/c.pem", "--tls-certificate-key", "/k.pem", "--tls-listen", "8443"),
    )
    assert result.exit_code == 0
    assert result.stdout == render_apache(
        OtherSite(
            name="shop",
            upstreams=("unix:/run/app.sock", "127.0.0.1:3032"),
            listen=("8080",),
            server_names=("example.org",),
            static=(StaticDirectory("/static/", "/srv/www/"),),
            client_max_body_bytes=1024 * 1024,
            read_timeout_seconds=120,
            tls=Certificate(file="/c.pem", key="/k.pem", listen=("8443",)),
        )
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "{apache|lighttpd}"),
        (("caddy",), "apache"),
        (("apache", "--upstream", "x"), "--upstream"),
        (("apache", "--static", "/static/"), "--static"),
        (("apache", "--tls"), "--tls-certificate"),
        (("lighttpd", "--tls-certificate", "/c.pem"), "--tls"),
    ],
)
def test_a_wrong_option_is_named_and_is_a_usage_error(
    arguments: tuple[str, ...], named: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert not result.stdout
