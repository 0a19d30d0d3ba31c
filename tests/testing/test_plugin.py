"""The pytest plugin: its fixtures, and what is said where a test fails or can't run."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester, monkeypatch):
    # What is installed here, this very plugin included, has no part in it.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        greeting="""
            def application(environ, start_response):
                environ["wsgi.errors"].write("asked for " + environ["PATH_INFO"])
                start_response("200 OK", [])
                return [b"hello"]
        """
    )
    return pytester


def run(project, *options):
    return project.runpytest_subprocess("-p", "uwsgibridge.testing.plugin", *options)


def test_a_stack_is_started_once_for_the_same_arguments(project):
    project.makepyfile(
        """
        from urllib.request import urlopen

        urls = set()

        def ask(stack):
            with urlopen(stack.url, timeout=20) as answer:
                assert answer.read() == b"hello"
            urls.add(stack.url)

        def test_one(local_stack):
            ask(local_stack("greeting:application"))

        def test_two(local_stack):
            ask(local_stack("greeting:application"))
            assert len(urls) == 1
            ask(local_stack("greeting:application", socket="unix"))
            assert len(urls) == 2
        """
    )
    run(project).assert_outcomes(passed=2)


def test_a_failure_shows_what_was_logged_during_the_test(project):
    project.makepyfile(
        """
        from urllib.request import urlopen

        def ask(stack, path):
            urlopen(stack.url + path, timeout=20).close()

        def test_one(local_stack):
            stack = local_stack("greeting:application")
            ask(stack, "/before")
            stack.wait_for_event(lambda event: "/before" in str(event))

        def test_two(local_stack):
            stack = local_stack("greeting:application")
            ask(stack, "/during")
            stack.wait_for_event(lambda event: "/during" in str(event))
            assert False
        """
    )
    result = run(project)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*log of LocalStack('greeting:application'*", "*/during*"])
    result.stdout.no_fnmatch_line("*/before*")


COMPOSE_TEST = """
    def test_it(compose_stack):
        assert False, "there is an engine?"
"""


def test_without_an_engine_compose_is_skipped_and_says_why(project, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.delenv("UWSGIBRIDGE_REQUIRE_DOCKER", raising=False)
    project.makepyfile(COMPOSE_TEST)
    result = run(project, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs Docker: *"])


def test_where_docker_is_required_that_is_a_failure(project, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setenv("UWSGIBRIDGE_REQUIRE_DOCKER", "1")
    project.makepyfile(COMPOSE_TEST)
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UWSGIBRIDGE_REQUIRE_DOCKER is set, but*"])


def test_docker_can_be_left_out_whether_it_is_there_or_not(project, monkeypatch):
    monkeypatch.setenv("UWSGIBRIDGE_REQUIRE_DOCKER", "0")
    project.makepyfile(COMPOSE_TEST)
    result = run(project, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*UWSGIBRIDGE_REQUIRE_DOCKER=0 leaves it out*"])
