"""``uwsgibridge nginx`` as a person calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from uwsgibridge.cli import nginx_options
from uwsgibridge.cli.nginx import command
from uwsgibridge.frontend import acme, balancing
from uwsgibridge.frontend.config import render_compose_files, render_site, render_site_files
from uwsgibridge.frontend.options import (
    Acme,
    Balancing,
    Cache,
    Canary,
    RateLimit,
    Site,
    StaticDirectory,
    StatusLocation,
    Tls,
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_it_prints_one_file() -> None:
    result = run()
    assert result.exit_code == 0
    assert result.stdout == render_site(Site())


def test_every_option_has_its_place() -> None:
    result = run(
        *("--upstream", "unix:/run/app.sock", "--upstream", "127.0.0.1:3032"),
        *("--listen", "8080", "--listen", "[::]:8080", "--server-name", "example.org"),
        *("--static", "/static/=/srv/www", "--client-max-body-bytes", "0"),
        *("--read-timeout-seconds", "3600", "--no-gzip", "--rate-limit", "5", "--tls", "--http2"),
        *("--nginx-version", "1.22"),
        *("--tls-certificate", "/c.pem", "--tls-certificate-key", "/k.pem", "--tls-listen", "8443"),
        *("--name", "shop", "--status", "unix:/run/status.sock", "--status-location", "/figures"),
        *("--status-allow", "10.0.0.0/8", "--status-allow", "::1"),
    )
    assert result.exit_code == 0
    assert result.stdout == render_site(
        Site(
            name="shop",
            upstreams=("unix:/run/app.sock", "127.0.0.1:3032"),
            listen=("8080", "[::]:8080"),
            server_names=("example.org",),
            static=(StaticDirectory("/static/", "/srv/www/"),),
            client_max_body_bytes=0,
            read_timeout_seconds=3600,
            gzip=False,
            rate_limit=RateLimit(enabled=True, requests_per_second=5, burst=10),
            tls=Tls(
                enabled=True,
                listen=("8443",),
                certificate="/c.pem",
                certificate_key="/k.pem",
                http2=True,
            ),
            status=StatusLocation(
                address="unix:/run/status.sock", url="/figures/", allow=("10.0.0.0/8", "::1")
            ),
            nginx_version=(1, 22, 0),
        )
    )


def test_options_of_newer_versions_have_their_places() -> None:
    result = run(
        *("--upstream", "app1:3031", "--upstream", "app2:3031", "--server-name", "example.org"),
        *("--resolver", "10.0.0.2", "--resolve", "--balance", "least-time", "--sticky", "at"),
        *("--drain", "app2:3031", "--canary", "new:3031", "--canary-percent", "2.5"),
        *("--max-headers", "100", "--tls", "--http3", "--acme", "--acme-resolver", "127.0.0.53"),
        *("--acme-contact", "ops@example.org", "--acme-accept-terms", "--nginx-version", "1.31.3"),
    )
    assert result.exit_code == 0
    assert result.stdout == render_site(
        Site(
            upstreams=("app1:3031", "app2:3031"),
            resolver="10.0.0.2",
            server_names=("example.org",),
            balancing=Balancing(
                method="least-time", cookie="at", drain=("app2:3031",), resolve=True
            ),
            canary=Canary(upstreams=("new:3031",), percent=2.5),
            max_headers=100,
            tls=Tls(enabled=True, http3=True),
            acme=Acme(resolver="127.0.0.53", contact="ops@example.org", accepts_terms=True),
            nginx_version=(1, 31, 3),
        )
    )
    assert "\n    accept_terms_of_service;\n" in result.stdout
    assert run("--sticky").stdout == render_site(Site(balancing=Balancing(cookie="route")))
    cached = run("--cache", "/x", "--cache-max-bytes", "5M", "--cache-valid-seconds", "1m").stdout
    assert cached == render_site(
        Site(cache=Cache(directory="/x", max_bytes=5 * 1024 * 1024, valid_seconds=60))
    )


def test_help_knows_the_methods_and_the_issuer() -> None:
    assert tuple(balancing.METHODS) == nginx_options.METHODS
    assert nginx_options.ROUND_ROBIN == balancing.ROUND_ROBIN
    assert nginx_options.LETS_ENCRYPT == acme.LETS_ENCRYPT


def test_nobody_agrees_to_terms_in_the_place_of_the_operator() -> None:
    arguments = ("--tls", "--server-name", "example.org", "--acme", "--acme-resolver", "127.0.0.53")
    lines = [it.strip() for it in run(*arguments).stdout.splitlines()]
    assert "accept_terms_of_service;" not in lines


def test_the_status_application_is_published_to_this_machine_alone() -> None:
    printed = run("--status").stdout
    assert printed == render_site(Site(status=StatusLocation(address="127.0.0.1:3032")))
    location = printed.partition("location ^~ /-/status/ {")[2].partition("}")[0]
    assert [it.strip() for it in location.strip().splitlines()][:4] == [
        "allow 127.0.0.1;",
        "allow ::1;",
        "deny all;",
        "uwsgi_pass 127.0.0.1:3032;",
    ]


def test_a_resolver_is_for_a_name() -> None:
    result = run("--upstream", "app:3031", "--resolver", "127.0.0.11")
    assert result.stdout == render_site(Site(upstreams=("app:3031",), resolver="127.0.0.11"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--upstream", "x;y:1"), "--upstream"),
        (("--static", "/static/"), "--static"),
        (("--static", "/static/=relative"), "--static"),
        (("--listen", "http"), "--listen"),
        (("--rate-limit", "0"), "--rate-limit"),
        (("--status", "fd://3"), "--status"),
        (("--status", "127.0.0.1:0"), "--status"),
        (("--status", "127.0.0.1:1", "--status-allow", "all"), "--status-allow"),
        (("--status", "127.0.0.1:1", "--status-allow", "10.0.0.1/8"), "--status-allow"),
        (("--status", "127.0.0.1:1", "--status-location", "/"), "--status-location"),
        (("--status", "--static", "/-/status/=/srv/x"), "--status-location"),
        (("--status-allow", "10.0.0.0/8"), "--status-allow"),
        (("--status-location", "/figures/"), "--status-location"),
        (("--nginx-version", "stable"), "--nginx-version"),
        (("--sticky", "--nginx-version", "1.26.3"), "--sticky needs nginx 1.29.6"),
        (("--canary-percent", "5"), "--canary-percent goes with --canary"),
        (("--cache-max-bytes", "5M"), "--cache-max-bytes goes with --cache"),
        (("--cache-valid-seconds", "5"), "--cache-valid-seconds goes with --cache"),
        (("--acme-resolver", "127.0.0.1"), "--acme-resolver goes with --acme"),
        (("--acme-accept-terms",), "--acme-accept-terms goes with --acme"),
        (("--acme", "--tls", "--server-name", "a.example"), "--acme-resolver"),
        (("--compose",), "--output"),
        (("--compose", "--output", "x", "--tls"), "--tls"),
        (("--force",), "--output"),
    ],
)
def test_a_wrong_option_is_named_and_is_a_usage_error(
    arguments: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert not result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "files"),
    [((), render_site_files(Site())), (("--compose",), render_compose_files())],
    ids=["site", "compose"],
)
def test_it_writes_a_set_of_files_and_names_them(
    arguments: tuple[str, ...], files: dict[str, str], tmp_path: Path
) -> None:
    result = run("--output", tmp_path, *arguments)
    assert result.exit_code == 0
    assert result.stdout.split() == [str(tmp_path / path) for path in files]
    written = {path: (tmp_path / path).read_text() for path in files}
    assert written == files


def test_files_of_somebody_else_are_kept(tmp_path: Path) -> None:
    (tmp_path / "uwsgibridge_params").write_text("mine")
    result = run("--output", tmp_path)
    assert result.exit_code == 1
    assert "uwsgibridge_params says something else; replace it with --force" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["uwsgibridge_params"]
    assert (tmp_path / "uwsgibridge_params").read_text() == "mine"

    assert run("--output", tmp_path, "--force").exit_code == 0
    assert (tmp_path / "uwsgibridge_params").read_text() != "mine"


def test_writing_the_same_again_needs_no_force(tmp_path: Path) -> None:
    assert run("--output", tmp_path).exit_code == 0
    assert run("--output", tmp_path).exit_code == 0


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("--output", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr
    assert "Traceback" not in result.output
